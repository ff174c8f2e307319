//! The conformance suite against moto, and the outside judge of templates.
#![allow(clippy::unwrap_used)]

mod common;

use common::moto::Moto;
use common::variants;
use goloo_testkit::aws_emulators::cfn_lint;

goloo_testkit::provider_suite!(Moto::new);

#[test]
fn cfn_lint_passes_every_template() {
    let texts: Vec<(&str, String)> =
        variants().into_iter().map(|(name, template)| (name, template.to_string())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    cfn_lint(&texts).unwrap();
}
