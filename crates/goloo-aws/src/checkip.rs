//! This machine's public address, for `vm.ssh_cidr: "me"`.

use std::net::IpAddr;
use std::time::Duration;

use goloo_core::provider::ProviderError;

const LIMIT: Duration = Duration::from_secs(10);

/// The CIDR block that holds this machine's public address alone, as the service at `url` sees it.
pub async fn my_cidr(url: &str) -> Result<String, ProviderError> {
    check(url)?;
    let asked = url.to_owned();
    let answer = tokio::task::spawn_blocking(move || ask(&asked)).await;
    let answer = answer.map_err(|error| failed(url, error.to_string()))?;
    cidr(&answer.map_err(|error| failed(url, error.to_string()))?)
        .ok_or_else(|| failed(url, "the answer is no address".to_owned()))
}

/// What answers decides who may log in: only TLS says who that is.
fn check(url: &str) -> Result<(), ProviderError> {
    let local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    if url.starts_with("https://") || local.iter().any(|start| url.starts_with(start)) {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("GOLOO_CHECKIP_URL is {url}, which isn't safe on its way"),
        hint: "use https, or leave it away".to_owned(),
    })
}

fn ask(url: &str) -> Result<String, ureq::Error> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().timeout_global(Some(LIMIT)).max_redirects(0).build(),
    );
    agent.get(url).call()?.body_mut().with_config().limit(1000).read_to_string()
}

fn cidr(answer: &str) -> Option<String> {
    Some(match answer.trim().parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    })
}

fn failed(url: &str, why: String) -> ProviderError {
    ProviderError::failed(
        format!("this machine's public address, for vm.ssh_cidr \"me\", can't be found at {url}: {why}"),
        "look at the network, or write the block itself: \"ssh_cidr\": \"198.51.100.7/32\"",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_becomes_a_block_of_its_own() {
        assert_eq!(cidr("198.51.100.7\n").unwrap(), "198.51.100.7/32");
        assert_eq!(cidr("2001:db8::1").unwrap(), "2001:db8::1/128");
        assert_eq!(cidr("<html>"), None);
    }

    #[test]
    fn an_address_is_only_taken_from_a_safe_place() {
        check("https://checkip.amazonaws.com").unwrap();
        check("http://127.0.0.1:8000").unwrap();
        check("http://127.0.0.1.example.com:80").unwrap_err();
        check("http://checkip.example.com").unwrap_err();
    }
}
