//! This computer's public address, for `vm.ssh_cidr: "me"`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use goloo_model::provider::ProviderError;
use goloo_model::spec::is_safe_url;
use goloo_sys::http;
use ureq::tls::TlsConfig;

use crate::settings::{CHECKIP, Settings};

const LIMIT: Duration = Duration::from_secs(10);

/// The maximum response size, in bytes. A response is just an address; a page inserted by a captive portal is longer.
const ANSWER_MAX: u64 = 1000;

/// This computer's public address, as reported by the configured service.
pub async fn ask(settings: &Settings) -> Result<IpAddr, ProviderError> {
    let url = &settings.checkip;
    // The response decides who may log in, and only TLS authenticates the server.
    if !is_safe_url(url) {
        return Err(ProviderError::Unsupported {
            what: format!("GOLOO_CHECKIP_URL is {url}, which is insecure"),
            hint: "use https, or unset it".into(),
        });
    }
    let tls = http::tls_for(url).map_err(|error| ProviderError::Unavailable {
        what: format!("can't get this computer's public address from {url}: {error}"),
        hint: error.hint().into(),
    })?;
    let asked = url.clone();
    let answer = tokio::task::spawn_blocking(move || fetch(&asked, tls)).await;
    let answer = answer.map_err(|error| unknown(url, &error.to_string()))?;
    let answer = answer.map_err(|why| unknown(url, &why))?;
    address(&answer, url == CHECKIP).map_err(|why| unknown(url, &why))
}

fn fetch(url: &str, tls: TlsConfig) -> Result<String, String> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls)
            .build(),
    );
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    match answer.status().as_u16() {
        200 => answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(|e| e.to_string()),
        // A captive portal redirects to its own page.
        300..400 => Err("the response is a redirect".to_owned()),
        status => Err(format!("the response has the status {status}")),
    }
}

/// Parses the response and checks that an instance could see this computer at that address. `is_public` means the
/// service is on the internet: it can't see a private address, unless something in between answers.
fn address(answer: &str, is_public: bool) -> Result<IpAddr, String> {
    let address: IpAddr =
        answer.trim().parse().map_err(|_| "the response is not an IP address".to_owned())?;
    match address {
        IpAddr::V4(four) if is_unusable(four) || is_public && is_internal(four) => {
            Err(format!("the response is {four}, which is not a public address"))
        }
        // goloo's instances have no IPv6 address, so they can't be reached over IPv6.
        IpAddr::V6(six) => {
            Err(format!("the response is the IPv6 address {six}, but the VM is reached over IPv4"))
        }
        IpAddr::V4(_) => Ok(address),
    }
}

fn is_unusable(address: Ipv4Addr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
}

fn is_internal(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // Carrier-grade NAT addresses: RFC 6598.
    let is_shared = first == 100 && (64..128).contains(&second);
    address.is_private() || is_shared
}

fn unknown(url: &str, why: &str) -> ProviderError {
    ProviderError::Unavailable {
        what: format!("can't get this computer's public address from {url}: {why}"),
        hint: "set the addresses that may connect to port 22 in config.json: \"vm\": {\"ssh_cidr\": \"198.51.100.7/32\"}"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_public_ipv4_address_is_accepted_from_the_default_service() {
        assert_eq!(address("198.51.100.7\n", true).unwrap().to_string(), "198.51.100.7");
        for answer in ["10.0.0.1", "192.168.1.2", "172.16.0.1", "100.64.3.4"] {
            let refused = address(answer, true).unwrap_err();
            assert_eq!(refused, format!("the response is {answer}, which is not a public address"));
            // A self-hosted service may be in the same network as the instance.
            assert_eq!(address(answer, false).unwrap().to_string(), answer);
        }
        for answer in ["127.0.0.1", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255"] {
            address(answer, false).unwrap_err();
        }
        for answer in ["", "<html>", "198.51.100.7/32", "198.51.100.7 203.0.113.1", "example.com"] {
            assert_eq!(address(answer, false).unwrap_err(), "the response is not an IP address");
        }
        let six = address("2001:db8::1", false).unwrap_err();
        assert!(six.contains("the VM is reached over IPv4"), "{six}");
    }
}
