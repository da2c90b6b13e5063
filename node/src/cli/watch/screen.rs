//! The terminal's other screen (xterm's private mode 1049), given back however the program ends.

use std::io::Write as _;
use std::sync::Once;

use super::view::{Line, Look};
use crate::cli::excerpt::has_colours;

/// To the other screen, without the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with the cursor.
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// What a terminal has that does not say: the size of the first ones (DEC's VT100).
const USUAL: (usize, usize) = (80, 24);

/// The other screen; dropped, the one before is back.
pub(super) struct Screen {
    is_coloured: bool,
}

// === impl Screen ===

impl Screen {
    /// Opens it.
    pub(super) fn open() -> Self {
        static HOOK: Once = Once::new();
        // The words of a panic would be lost with the screen that they stand on.
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                write(LEAVE);
                before(panic);
            }));
        });
        write(ENTER);
        Self { is_coloured: has_colours() }
    }

    /// Draws the lines, as many and as much of each as there is room for.
    pub(super) fn draw(&self, lines: &[Line]) {
        let (columns, rows) = size();
        write(&frame(lines, columns, rows, self.is_coloured));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

/// A whole frame, over the one before: nothing flickers.
fn frame(lines: &[Line], columns: usize, rows: usize, is_coloured: bool) -> String {
    let mut text = "\x1b[H".to_owned();
    let is_cut = lines.len() > rows;
    let fits = if is_cut { rows.saturating_sub(1) } else { lines.len() };
    for (at, line) in lines.iter().take(fits).enumerate() {
        if at > 0 {
            text += "\r\n";
        }
        let code = match line.look {
            _ if !is_coloured => "",
            Look::Plain => "",
            Look::Bold => "\x1b[1m",
            Look::Dim => "\x1b[2m",
            Look::Good => "\x1b[32m",
            Look::Odd => "\x1b[33m",
            Look::Loud => "\x1b[1;37;41m",
        };
        text += code;
        // Names and errors come from elsewhere: what they say must not be an order to the terminal.
        text.extend(line.text.chars().take(columns).map(|c| if c.is_control() { '?' } else { c }));
        if !code.is_empty() {
            text += "\x1b[0m";
        }
        text += "\x1b[K";
    }
    if is_cut {
        text += &format!("\r\n… {} more lines\x1b[K", lines.len() - fits);
    }
    text + "\x1b[J"
}

/// Columns and rows.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A terminal that is gone ends the watch with SIGHUP.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_and_gives_no_orders_to_the_terminal() {
        let lines: Vec<Line> =
            ["one", "two\x1b[2J\n", "three and more", "four"].map(|text| Line::new(Look::Plain, text)).into();
        assert_eq!(
            frame(&lines, 9, 3, true),
            "\x1b[Hone\x1b[K\r\ntwo?[2J?\x1b[K\r\n… 2 more lines\x1b[K\x1b[J"
        );
        let loud = [Line::new(Look::Loud, "DEGRADED")];
        assert_eq!(frame(&loud, 80, 24, true), "\x1b[H\x1b[1;37;41mDEGRADED\x1b[0m\x1b[K\x1b[J");
        assert_eq!(frame(&loud, 80, 24, false), "\x1b[HDEGRADED\x1b[K\x1b[J");
    }
}
