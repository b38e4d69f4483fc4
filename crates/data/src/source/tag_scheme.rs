//! How tags mark entities, and bringing every way to BIO.

use crate::config::TagScheme;

/// The tags of a sentence in BIO, and how many were repaired.
pub(super) type Bio = (Vec<String>, usize);

/// The first tag that is not as the scheme has it: its place in the sentence, what is wrong, and a hint.
pub(super) type Wrong = (usize, String, &'static str);

/// What a tag says.
#[derive(Clone, Copy, PartialEq)]
enum Mark<'a> {
    Outside,
    /// The first word of an entity of a kind.
    Begin(&'a str),
    Inside(&'a str),
    End(&'a str),
    Single(&'a str),
}

fn mark(scheme: TagScheme, tag: &str) -> Option<Mark<'_>> {
    if tag == "O" {
        return Some(Mark::Outside);
    }
    let (prefix, kind) = tag.split_once('-').filter(|(_, kind)| !kind.is_empty())?;
    match (prefix, scheme) {
        ("B", _) => Some(Mark::Begin(kind)),
        ("I", _) => Some(Mark::Inside(kind)),
        ("E", TagScheme::Bioes) => Some(Mark::End(kind)),
        ("S", TagScheme::Bioes) => Some(Mark::Single(kind)),
        _ => None,
    }
}

/// Whether a tag can stand in the scheme at all.
pub(super) fn knows(scheme: TagScheme, tag: &str) -> bool {
    scheme == TagScheme::Plain || mark(scheme, tag).is_some()
}

/// A sentence's tags in BIO; plain ones stay as they are.
///
/// # Errors
/// A tag that is none of the scheme; one that continues an entity that has not begun, or one that leaves it without its
/// end, unless that is to be repaired.
pub(super) fn to_bio(scheme: TagScheme, repair: bool, tags: Vec<String>) -> Result<Bio, Wrong> {
    if scheme == TagScheme::Plain {
        return Ok((tags, 0));
    }
    let mut bio = Vec::with_capacity(tags.len());
    let mut repaired = 0;
    // The kind of the entity that the word before is in and that may go on.
    let mut open: Option<&str> = None;
    for (place, tag) in tags.iter().enumerate() {
        let mark = mark(scheme, tag).ok_or_else(|| {
            let (name, hint) = match scheme {
                TagScheme::Bioes => ("BIOES", "tags are O, B-X, I-X, E-X and S-X; `scheme` = \"plain\" takes any"),
                _ => ("BIO", "tags are O, B-X and I-X; `scheme` = \"plain\" takes any, \"bioes\" E-X and S-X too"),
            };
            (place, format!("`{tag}` is no {name} tag"), hint)
        })?;
        let goes_on = |kind: &str| open == Some(kind);
        if scheme == TagScheme::Bioes
            && let Some(kind) = open
            && !matches!(mark, Mark::Inside(next) | Mark::End(next) if goes_on(next))
        {
            let message = format!("`{tag}` follows, and the entity of `{kind}` before it has no `E-{kind}`");
            (repaired, open) = (mend(repair, repaired).ok_or((place, message, REPAIR))?, None);
        }
        let stray = |repaired| {
            let before = match place.checked_sub(1) {
                Some(before) => format!("follows `{}`", tags[before]),
                None => "begins the sentence".into(),
            };
            let message = format!("`{tag}` {before}, which does not begin its entity");
            mend(repair, repaired).ok_or((place, message, REPAIR))
        };
        let begins = match mark {
            Mark::Outside => None,
            Mark::Begin(kind) | Mark::Single(kind) => Some((true, kind)),
            Mark::Inside(kind) | Mark::End(kind) => {
                let begins = open != Some(kind);
                if begins && scheme != TagScheme::Iob1 {
                    repaired = stray(repaired)?;
                }
                Some((begins, kind))
            }
        };
        open = match mark {
            Mark::Begin(kind) | Mark::Inside(kind) => Some(kind),
            Mark::Outside | Mark::End(_) | Mark::Single(_) => None,
        };
        bio.push(match begins {
            None => "O".into(),
            Some((true, kind)) => format!("B-{kind}"),
            Some((false, kind)) => format!("I-{kind}"),
        });
    }
    if let (TagScheme::Bioes, Some(kind)) = (scheme, open) {
        let message = format!("the sentence ends, and its last entity has no `E-{kind}`");
        repaired = mend(repair, repaired).ok_or((tags.len() - 1, message, REPAIR))?;
    }
    Ok((bio, repaired))
}

const REPAIR: &str = "check `scheme`, or set `repair` = true, or `on_bad_row` = \"skip\"";

/// One repair more, if repairs are wanted.
fn mend(repair: bool, repaired: usize) -> Option<usize> {
    repair.then_some(repaired + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bio(scheme: TagScheme, repair: bool, tags: &str) -> Result<(String, usize), Wrong> {
        let tags = tags.split(' ').map(Into::into).collect();
        to_bio(scheme, repair, tags).map(|(tags, repaired)| (tags.join(" "), repaired))
    }

    #[test]
    fn bio_stays_as_it_is_and_a_stray_inside_tag_is_named_or_begins_an_entity() {
        let good = "B-PER I-PER B-PER O B-LOC B-ORG I-ORG";
        assert_eq!(bio(TagScheme::Bio, false, good).unwrap(), (good.into(), 0));
        for (tags, place, part) in [
            ("O I-PER", 1, "`I-PER` follows `O`"),
            ("I-PER O", 0, "`I-PER` begins the sentence"),
            ("B-LOC I-PER", 1, "`I-PER` follows `B-LOC`"),
            ("O S-PER", 1, "`S-PER` is no BIO tag"),
            ("NN", 0, "`NN` is no BIO tag"),
            ("B-", 0, "`B-` is no BIO tag"),
        ] {
            let (at, message, _) = bio(TagScheme::Bio, false, tags).unwrap_err();
            assert!(at == place && message.contains(part), "{message}");
        }
        let repaired = bio(TagScheme::Bio, true, "I-PER I-PER O I-LOC B-LOC I-PER").unwrap();
        assert_eq!(repaired, ("B-PER I-PER O B-LOC B-LOC B-PER".into(), 3));
        assert!(bio(TagScheme::Bio, true, "NN").is_err());
    }

    #[test]
    fn iob1_begins_an_entity_without_saying_so() {
        let tags = "I-PER I-PER B-PER I-LOC O I-LOC";
        assert_eq!(bio(TagScheme::Iob1, false, tags).unwrap(), ("B-PER I-PER B-PER B-LOC O B-LOC".into(), 0));
    }

    #[test]
    fn bioes_loses_its_ends_and_singles_and_must_have_them() {
        let tags = "S-PER B-LOC E-LOC O B-ORG I-ORG E-ORG S-ORG";
        assert_eq!(bio(TagScheme::Bioes, false, tags).unwrap().0, "B-PER B-LOC I-LOC O B-ORG I-ORG I-ORG B-ORG");
        for (tags, place) in
            [("B-PER O", 1), ("O E-PER", 1), ("S-PER I-PER", 1), ("B-PER I-PER", 1), ("B-PER S-PER", 1)]
        {
            assert_eq!(bio(TagScheme::Bioes, false, tags).unwrap_err().0, place, "{tags}");
            assert!(bio(TagScheme::Bioes, true, tags).unwrap().1 > 0);
        }
        assert_eq!(bio(TagScheme::Bioes, true, "B-PER B-LOC I-LOC").unwrap().0, "B-PER B-LOC I-LOC");
    }

    #[test]
    fn plain_tags_are_not_checked() {
        assert_eq!(bio(TagScheme::Plain, false, "NN I-X").unwrap().0, "NN I-X");
    }
}
