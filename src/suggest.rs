//! "Did you mean …?" for misspelt keys and names.

// Insertions, deletions, substitutions, and swaps of neighbours: optimal string alignment.
use strsim::osa_distance as distance;

/// The one of `known` that `typed` most likely meant, if one is close enough.
pub(crate) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    near(typed, known.iter().copied()).into_iter().next()
}

/// The names of `known` that `typed` may have meant, the likeliest first.
pub(crate) fn near<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = normalized(typed);
    // A third of the letters may be wrong, at least one and at most three: `hots` finds `host`, `foo` nothing.
    let allowed = (typed.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = known
        .map(|name| (distance(&typed, &normalized(name)), name))
        .filter(|&(distance, _)| distance <= allowed)
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).collect()
}

/// The name in lower case, with `_` for `-` and spaces.
fn normalized(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn a_misspelt_key_is_found() {
        let known = ["name", "host", "concurrency", "prefetch_factor"];
        assert_eq!(nearest("concurency", &known), Some("concurrency"));
        assert_eq!(nearest("hots", &known), Some("host"));
        assert_eq!(nearest("prefetch-factor", &known), Some("prefetch_factor"));
        assert_eq!(nearest("Name", &known), Some("name"));
    }

    #[test]
    fn the_likeliest_comes_first() {
        let known = ["report", "reports.daily", "Reports", "import"];
        let near = super::near("reports", known.into_iter());
        assert_eq!(near, ["Reports", "report"]);
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(
            nearest("consumer_class", &["concurrency", "consumable"]),
            None
        );
        assert_eq!(nearest("x", &["name", "host"]), None);
        assert_eq!(nearest("", &["name"]), None);
    }

    #[test]
    fn distances_are_counted_in_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
