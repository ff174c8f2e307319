//! Removes objects whose keys the object store client can't handle from a page of a listing. For a single one it
//! refuses the whole page, and anyone who may write to the bucket can create one.

use object_store::path::Path;

/// The element of an object and of its key: of S3 and Google Cloud Storage, then of Azure.
const ELEMENTS: [(&str, &str); 2] = [("Contents", "Key"), ("Blob", "Name")];

/// How an object is treated.
enum Judged {
    Kept,
    /// Represents a folder in a service's console, and contains no record.
    Folder,
    /// Removed; contains its key.
    Odd(String),
}

/// Removes the objects with such keys, which are passed to `odd`.
pub(super) fn without_odd_keys(page: &str, mut odd: impl FnMut(String)) -> String {
    let element = ELEMENTS.into_iter().find(|(object, _)| page.contains(&format!("<{object}>")));
    let Some((object, key)) = element else { return page.to_owned() };
    let (begin, end) = (format!("<{object}>"), format!("</{object}>"));
    let mut kept = String::with_capacity(page.len());
    let mut rest = page;
    while let Some((before, from)) = rest.find(&begin).map(|at| rest.split_at(at)) {
        let Some(length) = from.find(&end).map(|at| at + end.len()) else { break };
        let (one, after) = from.split_at(length);
        kept.push_str(before);
        match text_of(one, key).map_or(Judged::Kept, judge) {
            Judged::Kept => kept.push_str(one),
            Judged::Folder => {}
            Judged::Odd(key) => odd(key),
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// The raw text of an element.
fn text_of<'x>(xml: &'x str, element: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{element}"))?;
    rest.split_once('>')?.1.split('<').next()
}

fn judge(written: &str) -> Judged {
    let Some(key) = unescaped(written) else { return Judged::Odd(written.to_owned()) };
    if key.ends_with('/') {
        return Judged::Folder;
    }
    // Excludes characters invalid in XML. And a key that is parsed as another one would duplicate that one's record.
    let is_readable = !key.contains(['\u{fffe}', '\u{ffff}']) && key.trim() == key;
    let is_kept = Path::parse(&key).is_ok_and(|path| path.as_ref() == key);
    if is_readable && is_kept { Judged::Kept } else { Judged::Odd(key) }
}

/// An XML text with its entities resolved; `None` if one of them is not a character.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('&');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (entity, rest) = piece.split_once(';')?;
        plain.push(character(entity)?);
        plain.push_str(rest);
    }
    Some(plain)
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => {}
    }
    let number = entity.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(page: &str) -> (String, Vec<String>) {
        let mut odd = Vec::new();
        (without_odd_keys(page, |key| odd.push(key)), odd)
    }

    #[test]
    fn only_objects_with_odd_keys_are_removed_from_a_page() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let good = [
            "a/web.json",
            "a/b c.json",
            "a/&lt;x&gt;&amp;.json",
            "a/\u{e4}\u{202e}.json",
            "a/b/c.json",
            "a/%2e.json",
        ];
        let odd = [
            ("a//x.json", "a//x.json"),
            ("a/../x.json", "a/../x.json"),
            ("a/./x.json", "a/./x.json"),
            ("/a/x.json", "/a/x.json"),
            ("a/&#x1;.json", "a/\u{1}.json"),
            ("a/&#10;.json", "a/\n.json"),
            ("a/\u{7f}.json", "a/\u{7f}.json"),
            ("a/&#0;.json", "a/\0.json"),
            ("a/&#xD800;.json", "a/&#xD800;.json"),
            ("a/&nothing;.json", "a/&nothing;.json"),
            ("a/&#xFFFF;.json", "a/\u{ffff}.json"),
            ("a/web.json ", "a/web.json "),
        ];
        let page =
            |objects: Vec<String>| format!("<List><Name>b</Name>{}<Token>x</Token></List>", objects.concat());
        let kept: Vec<_> = good.iter().map(|key| object(key)).collect();
        let folders = ["a/", "a/web.json/", "a//"].map(object);
        let all = odd.iter().map(|(key, _)| object(key)).chain(folders).zip(kept.iter().cycle());
        let mixed = all.flat_map(|(odd, kept)| [odd, kept.clone()]).collect::<Vec<_>>();
        let expected = mixed.iter().filter(|object| kept.contains(object)).cloned().collect();
        assert_eq!(cut(&page(mixed)), (page(expected), odd.map(|(_, key)| key.to_owned()).to_vec()));
    }

    #[test]
    fn azure_list_pages_are_supported() {
        let blob = |key: &str| format!("<Blob><Name>{key}</Name><Properties/></Blob>");
        let page = |blobs: &str| format!("<EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>");
        let encoded = "<Blob><Name Encoded=\"true\">a//%EF%BF%BF.json</Name></Blob>";
        let (kept, odd) = cut(&page(&(blob("a//x.json") + &blob("a/web.json") + encoded)));
        assert_eq!(
            (kept, odd),
            (page(&blob("a/web.json")), vec!["a//x.json".to_owned(), "a//%EF%BF%BF.json".to_owned()])
        );
    }

    #[test]
    fn text_that_is_not_a_list_page_is_unchanged() {
        for page in [
            "",
            "{}",
            "<Contents>",
            "<Contents><Key>a//b",
            "<Contents></Contents>",
            "<a><Contents><Key/></Contents>",
        ] {
            assert_eq!(cut(page), (page.to_owned(), Vec::new()));
        }
    }
}
