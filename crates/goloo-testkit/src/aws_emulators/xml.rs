//! Text in XML answers.

use roxmltree::Node;

/// The text of the first element with this name within `node`.
pub(super) fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    elements(node, name).next()
}

/// The texts of all elements of this name within `node`.
pub(super) fn elements<'a>(node: Node<'a, '_>, name: &str) -> impl Iterator<Item = &'a str> {
    let named = node.descendants().filter(move |node| node.tag_name().name() == name);
    named.filter_map(|node| node.text()).map(str::trim).filter(|text| !text.is_empty())
}
