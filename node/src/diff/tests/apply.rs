//! A patch, read back: small, strict, and written from the format's description, not from the code that writes it.
//! The fuzz target `diff` uses this file too.

/// Applies a unified diff.
pub(crate) fn apply(old: &str, diff: &str) -> Result<String, String> {
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let lines: Vec<&str> = diff.split_inclusive('\n').collect();
    let (mut new, mut at, mut line) = (String::new(), 0, 0);
    if let [from, to, ..] = lines[..] {
        if !from.starts_with("--- ") || !to.starts_with("+++ ") {
            return Err(format!("no header: {from:?}, {to:?}"));
        }
        line = 2;
    }
    while let Some(header) = lines.get(line) {
        line += 1;
        let [(from, mut minus), (_, mut plus)] =
            hunk(header).ok_or_else(|| format!("no hunk: {header:?}"))?;
        // Where nothing is taken away, the line before is named.
        let from = if minus == 0 { from } else { from.checked_sub(1).ok_or("line 0")? };
        new.extend(old.get(at..from).ok_or("hunks out of order")?.iter().copied());
        at = from;
        while minus > 0 || plus > 0 {
            let whole = lines.get(line).ok_or("a hunk is cut off")?;
            let is_last = lines.get(line + 1).is_some_and(|next| next.starts_with('\\'));
            line += if is_last { 2 } else { 1 };
            let text = whole.get(1..).ok_or("an empty line")?;
            let text = if is_last { text.strip_suffix('\n').ok_or("no line")? } else { text };
            let sign = whole.as_bytes()[0];
            if sign != b'+' {
                if old.get(at) != Some(&text) {
                    return Err(format!("{text:?} is to be there, and {:?} is", old.get(at)));
                }
                at += 1;
                minus = minus.checked_sub(1).ok_or("more than the header says")?;
            }
            if sign != b'-' {
                new.push_str(text);
                plus = plus.checked_sub(1).ok_or("more than the header says")?;
            }
            if !matches!(sign, b'+' | b'-' | b' ') {
                return Err(format!("no sign: {whole:?}"));
            }
        }
    }
    new.extend(old[at..].iter().copied());
    Ok(new)
}

/// `@@ -first,count +first,count @@`; a count of 1 may be left out.
fn hunk(header: &str) -> Option<[(usize, usize); 2]> {
    let (old, new) = header.trim_end().strip_prefix("@@ -")?.strip_suffix(" @@")?.split_once(" +")?;
    let range = |text: &str| match text.split_once(',') {
        Some((first, count)) => Some((first.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    };
    Some([range(old)?, range(new)?])
}
