//! Standard output for data. A reader that goes away (`| head`) ends the program quietly, as with any other tool.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a line.
pub(super) fn line(what: impl Display) {
    ended(writeln!(io::stdout().lock(), "{what}"));
}

/// Prints text as it is.
pub(super) fn text(what: impl Display) {
    ended(write!(io::stdout().lock(), "{what}"));
}

fn ended(written: io::Result<()>) {
    if written.is_err() {
        // 141 is what a shell reports of a program that SIGPIPE ended.
        std::process::exit(141);
    }
}
