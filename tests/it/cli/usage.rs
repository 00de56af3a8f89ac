//! Wrong usage and configuration, what is taken by others, and what needs no configuration.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use ledgerhook::config::{Config, DEFAULT_TOML};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::common::install;
use crate::common::process::{Process, command, run};

fn written(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("written.toml");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_file_is_told_at_once() {
    let text = "[receiver]\nlistne = \"127.0.0.1:1\"\n[router]\ndedupe_window = \"30 moons\"\n\
        [sources.accelex]\nsecrets = [{ id = \"a\", value = \"env:NEVER_SET\" }]\n";
    let (_dir, file) = written(text);
    for args in [&["check"][..], &["run"], &["topics", "apply"]] {
        let refused = run(&file, args).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        let lines: Vec<&str> = refused.stderr.lines().collect();
        let at = |line: usize, rest: &str| format!("{}:{line}: {rest}", file.display());
        let expected = [
            (at(2, "receiver.listne: "), "listen"),
            (at(4, "router.dedupe_window: "), "units are ms, s, m, h, d"),
            (at(6, "sources.accelex.secrets"), "`NEVER_SET` is not set"),
        ];
        assert_eq!(lines.len(), expected.len(), "{}", refused.stderr);
        for (line, (place, hint)) in lines.iter().zip(expected) {
            assert!(line.starts_with(&place) && line.contains(hint), "{line}");
        }
    }
    let absent = run(Path::new("/nowhere/ledgerhook.toml"), &["check"]).await;
    assert_eq!(absent.code, Some(2));
    assert!(absent.stderr.starts_with("/nowhere/ledgerhook.toml: cannot be read: "), "{}", absent.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_told() {
    let (_dir, file) =
        written("[sources.accbooks]\nsecrets = [{ id = \"b\", value = \"env:TEST_ACCBOOKS_SECRET\" }]\n");
    for (args, told) in [
        (&["send", "nobody", "all"][..], "no source nobody is configured; there are: accbooks\n"),
        (
            &["send", "accbooks", "invoice.eaten"],
            "has no event type `invoice.eaten`; it is `all` or one of: invoice.created, ",
        ),
        (&["send", "accbooks", "all", "--duplicates", "120%"], "must be a share from 0 to 1"),
        (&["run", "--role", "reciever"], "possible values: receiver, router, delivery, lake, console"),
        (&["runn"], "a similar subcommand exists: 'run'"),
    ] {
        let refused = run(&file, args).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    let (_dir, nothing) = written("");
    let refused = run(&nothing, &["run"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.starts_with("no sources are configured: "), "{}", refused.stderr);
    let refused = run(&nothing, &["send", "accelex", "all"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.starts_with("no source accelex is configured; there are none"), "{}", refused.stderr);
}

/// What the client library does not take is found before anything is asked of a cluster, as any other fault of a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_setting_that_does_not_exist_is_a_fault_of_the_file() {
    let source = "[sources.accbooks]\nsecrets = [{ id = \"b\", value = \"env:TEST_ACCBOOKS_SECRET\" }]\n";
    for (property, told) in [
        ("\"foo.bar\" = \"1\"", "No such configuration property: \"foo.bar\""),
        ("\"security.protocol\" = \"SASL_SLL\"", "Invalid value \"SASL_SLL\""),
        ("\"session.timeout.ms\" = \"1000\"", "it would break the promise that an event is routed once"),
    ] {
        let (_dir, file) = written(&format!("[kafka.properties]\n{property}\n{source}"));
        for args in [&["check"][..], &["run"], &["topics", "check"], &["events", "show", "e1"]] {
            let refused = run(&file, args).await;
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
            assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_is_not_configured_is_not_made() {
    let (_dir, file) = written("");
    for args in [&["lake", "maintain", "--dry-run"][..], &["lake", "rebuild", "events"]] {
        let refused = run(&file, args).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.starts_with("no [lake] is configured"), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_commands_need_no_configuration() {
    // A file at fault, to show that it is not read.
    let (_dir, file) = written("[receiver]\nlistne = 1\n");
    let printed = run(&file, &["config", "default"]).await;
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), DEFAULT_TOML));
    assert!(Config::parse(&printed.stdout, "printed", &|_| None, &[]).is_ok());
    let printed = run(&file, &["completions", "bash"]).await;
    assert!(printed.code == Some(0) && printed.stdout.contains("complete -F _ledgerhook"), "{printed:?}");
    let printed = run(&file, &["--version"]).await;
    assert_eq!((printed.code, printed.stdout), (Some(0), format!("ledgerhook {}\n", env!("CARGO_PKG_VERSION"))));
    for args in [&["--help"][..], &["run", "--help"], &["send", "--help"], &["events", "show", "--help"]] {
        let printed = run(&file, args).await;
        assert!(printed.code == Some(0) && printed.stdout.contains("Usage: ledgerhook"), "{printed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_program_quietly() {
    let (_dir, file) = written("");
    for args in [&["config", "default"][..], &["completions", "bash"], &["check"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&file, args, &[]);
        let ended = tokio::task::spawn_blocking(move || {
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
        });
        let ended = ended.await.unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(141), "{args:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains("Broken pipe"), "{args:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_named() {
    let installation = install("").await;
    let file = installation.file();
    let occupant = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = occupant.local_addr().unwrap().to_string();
    for (variable, who) in [
        ("LEDGERHOOK__RECEIVER__LISTEN", "the receiver cannot listen on"),
        ("LEDGERHOOK__ADMIN__LISTEN", "the admin server cannot listen on"),
    ] {
        let refused = Process::start(&file, &["run"], &[(variable, &taken)]).ended().await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let last = refused.stderr.lines().last().unwrap();
        assert!(last.starts_with("error: ") && last.contains(&format!("{who} {taken}: ")), "{}", refused.stderr);
        assert_eq!(last.matches("cannot listen").count(), 1, "{last}");
    }
    let refused = run(&file, &["sandbox", "--listen", &taken]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(&taken), "{}", refused.stderr);

    let mut first = Process::start(&file, &["run"], &[]);
    first.line(&["the admin port listens"]).await;
    let second = run(&file, &["run"]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    let told = format!(
        "error: another process runs the receiver role with {}; give this one a data_dir of its own\n",
        installation.data_dir.path().display()
    );
    assert!(second.stderr.ends_with(&told), "{}", second.stderr);
    first.terminate();
    let first = first.ended().await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
}
