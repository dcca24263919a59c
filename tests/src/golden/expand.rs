//! `${N * TEXT}`: TEXT so many times. `$i` in it is the number of the repetition, from 0, with leading zeros so that
//! names sort as numbers do.

/// Writes all repetitions out.
///
/// # Errors
/// A repetition that is not closed or has no number.
pub fn expand(text: &str) -> Result<String, String> {
    let Some(start) = text.find("${") else { return Ok(text.to_string()) };
    let inner_start = start + 2;
    let mut depth = 1;
    let length = text[inner_start..]
        .find(|letter| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        })
        .ok_or_else(|| format!("'${{' without its '}}': {text}"))?;
    let inner = &text[inner_start..inner_start + length];
    let (count, repeated) = inner.split_once('*').ok_or_else(|| format!("no '*' in '${{{inner}}}'"))?;
    let count: usize = count.trim().parse().map_err(|_| format!("no number in '${{{inner}}}'"))?;
    let mut out = text[..start].to_string();
    if repeated.contains("$i") {
        (0..count).for_each(|number| out.push_str(&numbered(repeated.trim(), number, count)));
    } else {
        out.push_str(&repeated.trim().repeat(count));
    }
    out.push_str(&expand(&text[inner_start + length + 1..])?);
    Ok(out)
}

/// Replaces `$i`.
pub fn numbered(text: &str, number: usize, count: usize) -> String {
    let width = count.saturating_sub(1).to_string().len();
    text.replace("$i", &format!("{number:0width$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        assert_eq!(expand("a \"${3 * x}\" b").unwrap(), "a \"xxx\" b");
        assert_eq!(expand("${11 * {k$i}}").unwrap().split('}').nth(10).unwrap(), "{k10");
        assert_eq!(expand("${2 * a}${2 * b}").unwrap(), "aabb");
        assert!(expand("${2 * a").is_err());
        assert!(expand("${a}").is_err());
    }
}
