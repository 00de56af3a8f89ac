# Sourced by scripts/demo --real: the same Ledgerhook before a real Tryton, a real Roundup and a review queue, which is the
# sandbox with a signature that it checks.
# shellcheck shell=bash

have python3 || install_debian python3 || die "python3 is missing: install it"
"$ROOT/scripts/targets" up tryton roundup --dir "$DIR/targets"
[ -s "$DIR/secrets/review" ] || (umask 077; echo "whsec_$(head -c 24 /dev/urandom | base64)" > "$DIR/secrets/review")
of() { sed -n "s/^$2=//p" "$DIR/targets/$1.env"; }           # of SYSTEM KEY
TRYTON=$(of tryton URL) ROUNDUP=$(of roundup URL)
for name in tryton roundup; do (umask 077; of $name PASSWORD > "$DIR/secrets/$name"); done

targets() {
  cat <<TOML
[targets.tryton]
records = ["invoices"]
start = "earliest"
url = "$TRYTON"
allow_private_addresses = true
secrets = { password = "file:$DIR/secrets/tryton" }
[targets.tryton.settings]
user = "$(of tryton LOGIN)"
payable_account = "2100"
receivable_account = "1100"
expense_account = "5900"
revenue_account = "4000"
tax_account = "2200"
create_parties = true                            # AccBooks' customers

[targets.roundup]
records = ["cases"]
start = "earliest"
url = "$ROUNDUP"
allow_private_addresses = true
secrets = { password = "file:$DIR/secrets/roundup" }
settings = { user = "$(of roundup LOGIN)", origin = "${ROUNDUP%/}", priorities = { high = "urgent" } }

[targets.review]
preset = "webhook"
records = ["reviews"]
start = "earliest"
url = "http://$SANDBOX/"
allow_private_addresses = true
signing_secret = "file:$DIR/secrets/review"

[sandbox]
listen = "$SANDBOX"
signing_secret = "file:$DIR/secrets/review"
TOML
}
# Systems that were started anew are elsewhere now.
if alive "$DIR/run.pid" && ! grep -qF "\"$TRYTON\"" "$DIR/ledgerhook.toml"; then end "$DIR/run.pid" TERM 30; fi

# send_each SOURCE TYPE COUNT: events of different entities, each third one twice. Their bodies stay in $RUN.
send_each() {
  local source=$1 type=$2 count=$3 i body
  for ((i = 0; i < count; i++)); do
    SEED=$((SEED + 1000000)); body=$RUN/$source-$type-$i.json
    # The body stands in the command that --dry-run shows, between quotes; it has none itself.
    lh send "$source" "$type" --dry-run --seed "$SEED" | sed -n "s/^printf %s '\(.*\)' | curl .*/\1/p" > "$body"
    [ -s "$body" ] || die "no body of $type could be made"
    lh send "$source" "$type" --body "$body" > "$RUN/log" || { cat "$RUN/log" >&2; die "$type was not accepted"; }
    SENT=$((SENT + 1))
    if ((i % 3 == 0)); then lh send "$source" "$type" --body "$body" > "$RUN/log"; SENT=$((SENT + 1)); fi
  done
}

send_to_real() {
  RUN=$DIR/run-$(date +%s) SENT=0 SEED=$(date +%s)000000
  mkdir -p "$RUN"
  say "sending 50 events, a third of them twice"
  send_each accelex invoice.resolved 12
  send_each accbooks invoice.created 12
  send_each accelex case.closed 8
  send_each accbooks bank_feed.error 8
  send_each accelex workflow.failed 10
  compare() { python3 -B "$LIB/targets/compare.py" "$DIR/targets" "$RUN" "http://$SANDBOX/" > "$RUN/table"; }
  local until=$((SECONDS + ${LEDGERHOOK_START_TIMEOUT:-120}))
  until compare 2> "$RUN/log" || ((SECONDS >= until)); do sleep 0.5; done
  cat <<TEXT

$SENT requests, each answered 200; of 50 events:

$(cat "$RUN/table")

look at    Tryton  $TRYTON   with a client of series 8 (its RPC: ${TRYTON}rpc/), user $(of tryton LOGIN)
           Roundup $ROUNDUP   user $(of roundup LOGIN); passwords: $DIR/secrets
           review queue http://$SANDBOX/_sandbox/documents   metrics http://$ADMIN/metrics
           $BIN events show EVENT_ID --config $DIR/ledgerhook.toml   event ids: $RUN
logs       $DIR/run.log, $DIR/sandbox.log, $DIR/targets/tryton.log, $DIR/targets/roundup.log
stop       scripts/demo --stop
TEXT
  compare 2> "$RUN/log" || { cat "$RUN/log" >&2; die "what was sent and what is there differ (ledgerhook's log: $DIR/run.log)"; }
}
