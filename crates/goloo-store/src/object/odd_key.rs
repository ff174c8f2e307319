//! Objects whose key no record can have: how they are reported and removed.

use goloo_model::store::Broken;
use url::Url;

/// Reports an object as broken; `place` is the store's address.
pub(super) fn broken(place: &str, key: &str) -> Broken {
    let (scheme, rest) = place.split_once("://").unwrap_or_default();
    let bucket = rest.split(['/', '?']).next().unwrap_or_default();
    let error =
        format!("this key doesn't belong to a record; remove it: {}", removal(scheme, bucket, key, place));
    let name = key.rsplit('/').next().unwrap_or_default().to_owned();
    Broken { name, path: format!("{scheme}://{bucket}/{key}"), error }
}

/// The command of the service's own tool: goloo's client can't address the object.
fn removal(scheme: &str, bucket: &str, key: &str, place: &str) -> String {
    let word = in_shell(key);
    match scheme {
        "gs" => format!("gcloud storage rm {}", in_shell(&format!("gs://{bucket}/{key}"))),
        "az" => {
            let account = option(place, "account", "--account-name");
            format!("az storage blob delete{account} --container-name {bucket} --name {word}")
        }
        _ => {
            let (region, endpoint) =
                (option(place, "region", "--region"), option(place, "endpoint", "--endpoint-url"));
            format!("aws s3api delete-object{region}{endpoint} --bucket {bucket} --key {word}")
        }
    }
}

/// A parameter of the address as an option of a command.
fn option(place: &str, name: &str, option: &str) -> String {
    let url = Url::parse(place).ok();
    let value = url
        .and_then(|url| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()));
    value.map_or_else(String::new, |value| format!(" {option} {}", in_shell(&value)))
}

/// One shell word in printable ASCII, regardless of the input.
fn in_shell(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._:=+,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    if text.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'\'') {
        return format!("'{text}'");
    }
    let escaped = text.bytes().map(|byte| match byte {
        byte if is_plain(byte) => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    format!("$'{}'", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delete_command_quotes_the_key_and_names_the_service() {
        for (place, key, command) in [
            (
                "s3://team/goloo?region=eu-west-1&endpoint=http://127.0.0.1:9000",
                "goloo/active//x.json",
                "aws s3api delete-object --region eu-west-1 --endpoint-url http://127.0.0.1:9000 --bucket team \
                 --key goloo/active//x.json",
            ),
            (
                "s3://team",
                "active/../$(id).json",
                "aws s3api delete-object --bucket team --key 'active/../$(id).json'",
            ),
            (
                "s3://team",
                "active/\u{1b}'x",
                "aws s3api delete-object --bucket team --key $'active/\\x1b\\x27x'",
            ),
            ("gs://team/a", "a/active//x", "gcloud storage rm gs://team/a/active//x"),
            (
                "az://team/a?account=ann",
                "a/active//x",
                "az storage blob delete --account-name ann --container-name team --name a/active//x",
            ),
        ] {
            let broken = broken(place, key);
            assert_eq!(broken.error, format!("this key doesn't belong to a record; remove it: {command}"));
            assert!(broken.path.ends_with(key), "{}", broken.path);
        }
    }

    #[test]
    fn a_quoted_word_is_read_by_a_shell_as_the_original_text() {
        for text in ["", "a b", "it's", "\\x41", "a\nb", "\u{202e}\u{e4}", "$x", "\u{7f}"] {
            let command = format!("printf %s {}", in_shell(text));
            let said =
                std::process::Command::new("bash").arg("-c").arg(command).output().expect("bash").stdout;
            assert_eq!(String::from_utf8_lossy(&said), text);
        }
    }
}
