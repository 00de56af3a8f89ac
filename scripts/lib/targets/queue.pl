# What a Request Tracker for tests and the demo gets, in the form of rt-setup-database's data files: a queue, a field of
# its tickets that holds an id of ours, and a user with a token, which goes to the file RT_TOKEN_FILE.
use strict;
use warnings;

our (@Queues, @CustomFields, @Users, @ACL, @Final);

@Queues = ({ Name => 'Support', Description => 'Cases from Ledgerhook' });
@CustomFields = ({
    Name => 'ExternalId', Type => 'Freeform', MaxValues => 1, LookupType => 'RT::Queue-RT::Ticket', Queue => 'Support',
});
@Users = ({ Name => 'ledgerhook', EmailAddress => 'ledgerhook@tracker.example', Privileged => 1 });
@ACL = map { { Right => $_, UserId => 'ledgerhook', Queue => 'Support' } }
    qw(SeeQueue ShowTicket CreateTicket SeeCustomField SetInitialCustomField);
# Nobody reads the mail that each ticket leads to, and making it takes longest.
@Final = (sub {
    my $scrips = RT::Scrips->new(RT->SystemUser);
    $scrips->UnLimit;
    while (my $scrip = $scrips->Next) { $scrip->SetDisabled(1) }
}, sub {
    my $user = RT::User->new(RT->SystemUser);
    $user->Load('ledgerhook');
    my ($id, $message, $token) = RT::AuthToken->new(RT->SystemUser)->Create(Owner => $user->id, Description => 'tests');
    die "no token: $message" unless $id;
    open my $file, '>', $ENV{RT_TOKEN_FILE} or die "$ENV{RT_TOKEN_FILE}: $!";
    print $file $token;
    close $file or die "$ENV{RT_TOKEN_FILE}: $!";
});

1;
