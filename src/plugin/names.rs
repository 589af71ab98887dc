//! The names that the counters have in the server.

/// The name of a metric in the server, whose own metrics have some of the library's names.
pub fn shown_name(name: &str, part: Option<&str>) -> String {
    format!("plugin.tssession.{}", short_name(name, part))
}

/// The name of a metric without its prefix.
pub fn short_name(name: &str, part: Option<&str>) -> String {
    let name = name.strip_prefix("proxy.process.ssl.").unwrap_or(name);
    let name = name.strip_prefix("tssession.").unwrap_or(name);
    match part {
        None => name.to_owned(),
        Some(part) => format!("{name}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_under_the_plugins_name() {
        assert_eq!(
            shown_name("proxy.process.ssl.ssl_session_cache_miss", Some("expired")),
            "plugin.tssession.ssl_session_cache_miss.expired"
        );
        assert_eq!(
            shown_name("tssession.session_cache.entries", None),
            "plugin.tssession.session_cache.entries"
        );
    }
}
