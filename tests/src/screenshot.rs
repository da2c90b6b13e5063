//! A picture of a screen, for `docs/`: SVG, which every browser shows and `git diff` compares.

/// The height of a line and the width of a character, in pixels, of the font below.
const LINE: usize = 18;
const CHARACTER: f64 = 8.4;

/// A whole frame, with its ECMA-48 colours, as a picture of so many columns.
#[must_use]
pub fn svg(frame: &str, columns: usize) -> String {
    let frame = frame.trim_end_matches("\x1b[J").replace('\r', "");
    let lines: Vec<&str> = frame.lines().collect();
    let (width, height) = ((columns as f64 + 2.0) * CHARACTER, (lines.len() + 1) * LINE);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" font-family=\"DejaVu Sans Mono, Menlo, monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" fill=\"#16181d\"/>\n"
    );
    for (at, line) in lines.iter().enumerate() {
        let y = (at + 1) * LINE;
        let (style, text) = styled(line);
        if text.is_empty() {
            continue;
        }
        if style == LOUD {
            let length = text.chars().count() as f64 * CHARACTER;
            picture += &format!(
                "<rect x=\"{CHARACTER}\" y=\"{}\" width=\"{length:.0}\" height=\"{LINE}\" fill=\"#b3261e\"/>\n",
                y + 5 - LINE
            );
        }
        picture += &format!(
            "<text x=\"{CHARACTER}\" y=\"{y}\" xml:space=\"preserve\" {style}>{}</text>\n",
            escaped(&text)
        );
    }
    picture + "</svg>\n"
}

const LOUD: &str = "fill=\"#ffffff\" font-weight=\"bold\"";

/// A line has one look: its first code.
fn styled(line: &str) -> (&'static str, String) {
    let code = line.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')).map(|(code, _)| code);
    let style = match code {
        Some("1") => "fill=\"#f2f4f8\" font-weight=\"bold\"",
        Some("2") => "fill=\"#8b919c\"",
        Some("32") => "fill=\"#7fd88f\"",
        Some("33") => "fill=\"#f0c674\"",
        Some("1;37;41") => LOUD,
        _ => "fill=\"#d5d9e0\"",
    };
    (style, super::terminal::without_codes(line))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_colour_and_no_code() {
        let picture =
            svg("\x1b[1mhead <1>\x1b[0m\x1b[K\r\n\x1b[K\r\n\x1b[1;37;41m NO \x1b[0m\x1b[K\x1b[J", 20);
        assert!(picture.contains("font-weight=\"bold\">head &lt;1&gt;</text>"), "{picture}");
        assert!(picture.contains("fill=\"#b3261e\"") && !picture.contains('\u{1b}'), "{picture}");
        assert_eq!(picture.matches("<text").count(), 2);
    }
}
