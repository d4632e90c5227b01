//! The hosts that this server calls for bots: those of the connector, and those of people's files.

use reqwest::Url;

use crate::outbound::is_loopback;

/// Whether replies, and with them the bot's token, may go to this URL. The host is on the list as a
/// whole name, and the scheme is https. A listed loopback host may be on any port, over http too.
pub fn is_service(url: &Url, hosts: &[String]) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if has_credentials || !hosts.iter().any(|listed| listed == host) {
        return false;
    }
    match is_loopback(url) {
        true => matches!(url.scheme(), "http" | "https"),
        false => url.scheme() == "https" && url.port().is_none(),
    }
}

/// As [`is_service`], for files that people attach: `*.` on the list stands for any subdomain.
pub fn is_file_host(url: &Url, hosts: &[String]) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let is_listed = hosts.iter().any(|listed| match listed.strip_prefix("*.") {
        None => listed == host,
        Some(domain) => host
            .strip_suffix(domain)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|label| !label.is_empty()),
    });
    is_listed && is_service(url, &[host.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_on_the_list_are_called_and_http_only_on_loopback() {
        let hosts = ["smba.trafficmanager.net", "127.0.0.1"].map(str::to_owned);
        let is_allowed = |url: &str| is_service(&Url::parse(url).unwrap(), &hosts);
        for url in [
            "https://smba.trafficmanager.net/emea/",
            "https://SMBA.trafficmanager.net:443/",
            "http://127.0.0.1:3978",
            "https://127.0.0.1/",
        ] {
            assert!(is_allowed(url), "{url}");
        }
        for url in [
            "http://smba.trafficmanager.net/",
            "https://smba.trafficmanager.net:8443/",
            "https://a.smba.trafficmanager.net/",
            "https://evil.trafficmanager.net/",
            "https://smba.trafficmanager.net.evil.example/",
            "https://smba.trafficmanager.net@evil.example/",
            "https://user:p@smba.trafficmanager.net/",
            "http://localhost:3978",
            "http://[::1]:3978",
            "ftp://127.0.0.1/",
            "data:text/plain,x",
        ] {
            assert!(!is_allowed(url), "{url}");
        }
    }

    #[test]
    fn a_file_comes_from_a_listed_domain() {
        let hosts = ["*.sharepoint.com", "onedrive.live.com"].map(str::to_owned);
        let is_allowed = |url: &str| is_file_host(&Url::parse(url).unwrap(), &hosts);
        assert!(is_allowed(
            "https://contoso-my.sharepoint.com/personal/a?x=1"
        ));
        assert!(is_allowed("https://a.b.sharepoint.com/"));
        assert!(is_allowed("https://onedrive.live.com/"));
        for url in [
            "https://sharepoint.com/",
            "https://evilsharepoint.com/",
            "https://a.onedrive.live.com/",
            "http://contoso.sharepoint.com/",
            "https://contoso.sharepoint.com:444/",
            "https://contoso.sharepoint.com.evil.example/",
        ] {
            assert!(!is_allowed(url), "{url}");
        }
    }
}
