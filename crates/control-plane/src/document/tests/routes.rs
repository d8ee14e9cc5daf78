//! Claims: routes are read as Gateway API has them; what it has and we do not is refused with the
//! reason, and so is what would never match or would break a message.
use std::time::Duration;

use selvedge_model::{
    Backoff, HttpAction, PathChange, PathMatch, RequestPolicy, RetryBudget, RetryPolicy,
};

use super::*;

/// A HTTPRoute with one rule, of which `rule` says all but where it leads.
fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  \
         parentRefs: [{{kind: Service, name: a}}]\n  \
         rules: [{{backendRefs: [{{name: a, port: 80}}], {rule}}}]\n"
    )
}

/// The same with a rule that leads nowhere by itself.
fn bare_route(rule: &str) -> String {
    route(rule).replace("backendRefs: [{name: a, port: 80}], ", "")
}

fn rule(text: &str) -> selvedge_model::HttpRule {
    let parsed = read(text).unwrap();
    let Spec::HttpRoute(spec) = &parsed.documents[0].spec else {
        panic!("{parsed:?}");
    };
    spec.rules[0].clone()
}

#[test]
fn what_a_route_leaves_out_is_as_gateway_api_says() {
    let rule = rule(&route("retry: {}, timeouts: {request: 2s}"));
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/".to_owned()));
    assert_eq!(rule.backends[0].weight, 1);
    assert_eq!(rule.backends[0].backend.service.to_string(), "a.default");
    assert_eq!(rule.request_timeout, Some(Duration::from_secs(2)));
    let retry = RetryPolicy {
        attempts: 1,
        statuses: Vec::new(),
        backoff: Backoff::default(),
        non_idempotent: false,
    };
    assert_eq!(rule.retry, Some(retry));
}

#[test]
fn names_of_fields_and_prefixes_have_one_form() {
    let rule = rule(&route(
        "matches: [{path: {value: /a/}, headers: [{name: X-A, value: b}]}], filters: [{type: \
         URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b/}}}]",
    ));
    assert_eq!(rule.matches[0].path, PathMatch::Prefix("/a".to_owned()));
    assert_eq!(rule.matches[0].headers[0].name, "x-a");
    let Some(HttpAction::Rewrite(rewrite)) = rule.filters.action else {
        panic!("{:?}", rule.filters);
    };
    assert_eq!(rewrite.path, Some(PathChange::Prefix("/b".to_owned())));
}

#[test]
fn a_backoff_of_a_route_is_never_undercut() {
    let retry = rule(&route("retry: {backoff: 100ms}")).retry.unwrap();
    let [least, base, most] = [100, 200, 1000].map(Duration::from_millis);
    assert_eq!(retry.backoff, Backoff { least, base, most });
}

#[test]
fn earlier_versions_are_read_and_written_as_the_present_one() {
    for (kind, earlier) in [("HTTPRoute", "v1beta1"), ("TCPRoute", "v1alpha2")] {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/{earlier}\nkind: {kind}\nmetadata: {{name: r}}\n\
             spec: {{parentRefs: [{{kind: Service, name: a}}], rules: [{{backendRefs: [{{name: a, \
             port: 80}}]}}]}}\n"
        );
        let parsed = read(&text).unwrap();
        let written = parsed.documents[0].to_json();
        assert_eq!(written["apiVersion"], "gateway.networking.k8s.io/v1");
        let wrong = text.replace(earlier, "v2");
        assert!(errors(&wrong)[0].contains("gateway.networking.k8s.io/v1"));
    }
}

#[test]
fn what_does_nothing_is_warned_of() {
    let hosts = route("").replace("spec:\n", "spec:\n  hostnames: [a.example]\n");
    for (text, path) in [
        (hosts, "spec.hostnames"),
        (bare_route("name: r"), "spec.rules[0]"),
        (
            route("name: r").replace("port: 80}", "port: 80, weight: 0}"),
            "spec.rules[0].backendRefs",
        ),
        (
            route("filters: [{type: URLRewrite, urlRewrite: {}}]"),
            "spec.rules[0].filters[0].urlRewrite",
        ),
    ] {
        let warnings = read(&text).unwrap().warnings;
        let paths: Vec<_> = warnings
            .iter()
            .map(|warning| warning.path.as_str())
            .collect();
        assert_eq!(paths, [path], "{text}");
    }
}

/// Checks that each text is refused at its path, for a reason with these words in it.
fn refused<'a>(cases: impl IntoIterator<Item = (String, &'a str, &'a str)>) {
    for (text, path, reason) in cases {
        let found = read(&text).expect_err(&text);
        assert!(
            found.iter().all(|error| error.path == path),
            "{text}: {found:?}"
        );
        assert!(found[0].message.contains(reason), "{text}: {found:?}");
    }
}

#[test]
fn other_parents_and_backends_are_refused() {
    let parents = |parents: &str| route("").replace("[{kind: Service, name: a}]", parents);
    refused([
        (
            parents("[{kind: Pod, name: a}]"),
            "spec.parentRefs[0].kind",
            "Service",
        ),
        (
            parents("[{kind: Service, group: x, name: a}]"),
            "spec.parentRefs[0].group",
            "core",
        ),
        (
            parents("[{kind: Service, nam: a, name: a}]"),
            "spec.parentRefs[0].nam",
            "`name`",
        ),
        (parents("[]"), "spec.parentRefs", "1 to 32"),
    ]);
    let backends = |backends: &str| route("").replace("[{name: a, port: 80}]", backends);
    refused([
        (
            backends("[{name: a}]"),
            "spec.rules[0].backendRefs[0].port",
            "missing",
        ),
        (
            backends("[{name: a, port: 0}]"),
            "spec.rules[0].backendRefs[0].port",
            "65535",
        ),
        (
            backends("[{name: a, port: 1, weight: 1000001}]"),
            "spec.rules[0].backendRefs[0].weight",
            "1000000",
        ),
        (
            backends("[{name: a, port: 1, filters: []}]"),
            "spec.rules[0].backendRefs[0].filters",
            "rule of its own",
        ),
        (
            backends("[{kind: Bucket, name: a, port: 1}]"),
            "spec.rules[0].backendRefs[0].kind",
            "Service",
        ),
    ]);
}

#[test]
fn matches_that_could_not_hold_are_refused() {
    let one = |says: &str| route(&format!("matches: [{{{says}}}]"));
    let path = "spec.rules[0].matches[0].path.value";
    let header = "spec.rules[0].matches[0].headers";
    let query = "spec.rules[0].matches[0].queryParams[0]";
    refused([
        (one("path: {value: a}"), path, "begins with"),
        (one("path: {value: /a//b}"), path, "//"),
        (one("path: {value: /a%2Fb}"), path, "%2F"),
        (one("path: {type: Exact, value: '/a?b'}"), path, "path"),
        (
            one("path: {type: RegularExpression, value: '('}"),
            path,
            "unclosed",
        ),
        (
            one("path: {type: RegularExpression, value: '((a{99}){99}){99}'}"),
            path,
            "KiB",
        ),
        (
            one("path: {type: Glob, value: /}"),
            "spec.rules[0].matches[0].path.type",
            "Exact",
        ),
        (one("method: get"), "spec.rules[0].matches[0].method", "GET"),
        (
            one("headers: [{name: a, value: b}, {name: A, value: c}]"),
            header,
            "twice",
        ),
        (
            one("headers: [{name: Selvedge-Reason, value: b}]"),
            "spec.rules[0].matches[0].headers[0].name",
            "no match sees",
        ),
        (
            one("headers: [{name: 'a b', value: b}]"),
            "spec.rules[0].matches[0].headers[0].name",
            "name of a field",
        ),
        (
            one("queryParams: [{name: a, value: 'b c'}]"),
            &format!("{query}.value"),
            "%20",
        ),
        (
            one("queryParams: [{name: 'a#', value: b}]"),
            &format!("{query}.name"),
            "parameter",
        ),
        (
            one("cookies: []"),
            "spec.rules[0].matches[0].cookies",
            "known here",
        ),
    ]);
    let many = vec!["{}"; 65].join(", ");
    let many = route(&format!("matches: [{many}]"));
    refused([(many, "spec.rules[0].matches", "at most 64")]);
    let header = |n| format!("{{name: a{n}, value: {}}}", "b".repeat(4096));
    let headers: Vec<_> = (0..16).map(header).collect();
    let large = vec![format!("{{headers: [{}]}}", headers.join(", ")); 17].join(", ");
    refused([(
        route(&format!("matches: [{large}]")),
        "spec",
        "1048576 bytes",
    )]);
}

#[test]
fn filters_that_conflict_or_break_messages_are_refused() {
    let one = |says: &str| route(&format!("filters: [{{type: {says}}}]"));
    let request = "RequestHeaderModifier, requestHeaderModifier: ";
    let at = "spec.rules[0].filters[0]";
    let changes = format!("{at}.requestHeaderModifier");
    let redirect = "type: RequestRedirect, requestRedirect: {scheme: https}";
    let rewrite = "type: URLRewrite, urlRewrite: {hostname: a}";
    refused([
        (
            one("RequestMirror, requestMirror: {}"),
            &*format!("{at}.type"),
            "one backend",
        ),
        (one("ExtensionRef"), &format!("{at}.type"), "not supported"),
        (one("CORS"), &format!("{at}.type"), "not supported"),
        (one("ExternalAuth"), &format!("{at}.type"), "not supported"),
        (one("URLRewrit"), &format!("{at}.type"), "URLRewrite"),
        (one("URLRewrite"), &format!("{at}.urlRewrite"), "missing"),
        (
            one("URLRewrite, requestRedirect: {}"),
            &format!("{at}.requestRedirect"),
            "another type",
        ),
        (
            one(&format!(
                "{request}{{set: [{{name: a, value: \"b\\r\\nc: d\"}}]}}"
            )),
            &format!("{changes}.set[0].value"),
            "visible ASCII",
        ),
        (
            one(&format!("{request}{{remove: [Content-Length]}}")),
            &format!("{changes}.remove[0]"),
            "frames",
        ),
        (
            one(&format!("{request}{{set: [{{name: Host, value: b}}]}}")),
            &format!("{changes}.set[0].name"),
            "urlRewrite",
        ),
        (
            one(&format!(
                "{request}{{set: [{{name: a, value: b}}], remove: [A]}}"
            )),
            &changes,
            "more than one thing",
        ),
        (
            bare_route(&format!("filters: [{{{redirect}}}, {{{rewrite}}}]")),
            "spec.rules[0].filters",
            "exclude",
        ),
        (
            route(&format!("filters: [{{{rewrite}}}, {{{rewrite}}}]")),
            "spec.rules[0].filters",
            "two filters",
        ),
        (
            route(&format!("filters: [{{{redirect}}}]")),
            "spec.rules[0].backendRefs",
            "answers",
        ),
    ]);
}

#[test]
fn redirects_and_rewrites_are_bounded() {
    let redirect = |says: &str| {
        bare_route(&format!(
            "filters: [{{type: RequestRedirect, requestRedirect: {{{says}}}}}]"
        ))
    };
    let at = "spec.rules[0].filters[0].requestRedirect";
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}";
    refused([
        (
            redirect("statusCode: 300"),
            &*format!("{at}.statusCode"),
            "308",
        ),
        (redirect("scheme: ftp"), &format!("{at}.scheme"), "https"),
        (
            redirect("hostname: '*.a'"),
            &format!("{at}.hostname"),
            "host",
        ),
        (
            redirect("path: {type: ReplaceFullPath, replaceFullPath: 'a b'}"),
            &format!("{at}.path.replaceFullPath"),
            "begins with",
        ),
        (
            redirect("path: {type: ReplaceFullPath, replacePrefixMatch: /}"),
            &format!("{at}.path.replacePrefixMatch"),
            "another type",
        ),
        (
            redirect(prefix).replace("filters", "matches: [{path: {type: Exact}}], filters"),
            "spec.rules[0].filters",
            "PathPrefix",
        ),
        (
            redirect(prefix).replace("filters", "matches: [{}, {path: {value: /a}}], filters"),
            "spec.rules[0].filters",
            "exactly one",
        ),
    ]);
    read(&redirect(prefix)).unwrap();
}

#[test]
fn times_and_retries_are_bounded() {
    let rule = "spec.rules[0]";
    refused([
        (
            route("timeouts: {request: 1s, backendRequest: 2s}"),
            "spec.rules[0].timeouts.backendRequest",
            "longer",
        ),
        (
            route("timeouts: {request: 1d}"),
            "spec.rules[0].timeouts.request",
            "1s500ms",
        ),
        (
            route("timeouts: {request: 1}"),
            "spec.rules[0].timeouts.request",
            "text",
        ),
        (
            route("retry: {codes: [200]}"),
            "spec.rules[0].retry.codes[0]",
            "400",
        ),
        (
            route("retry: {codes: [500, 500]}"),
            "spec.rules[0].retry.codes",
            "twice",
        ),
        (
            route("retry: {attempts: 0}"),
            "spec.rules[0].retry.attempts",
            "255",
        ),
        (
            route("sessionPersistence: {}"),
            "spec.rules[0].sessionPersistence",
            "sessions",
        ),
        (route("name: '0'"), "spec.rules[0].name", "number"),
        (
            route("backendRef: []"),
            &format!("{rule}.backendRef"),
            "backendRefs",
        ),
    ]);
    read(&route("timeouts: {request: 0s, backendRequest: 2s}")).unwrap();
}

fn policy(says: &str) -> String {
    format!(
        "apiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p}}\n\
         spec: {{targetRefs: [{{kind: Service, name: a}}], {says}}}\n"
    )
}

#[test]
fn policies_have_defaults_only_where_they_say_something() {
    let requests = |says: &str| {
        let parsed = read(&policy(says)).unwrap();
        let Spec::TrafficPolicy(policy) = &parsed.documents[0].spec else {
            panic!("{parsed:?}");
        };
        policy.requests.clone()
    };
    assert_eq!(requests("counters: Basic"), RequestPolicy::default());
    let all = requests("retry: {}, retryBudget: {}, ejection: {}");
    assert_eq!(all.retry.unwrap().backoff, Backoff::default());
    assert_eq!(all.retry_budget, Some(RetryBudget::default()));
    let ejection = all.ejection.unwrap();
    assert_eq!(
        (ejection.consecutive_failures.get(), ejection.most_percent),
        (5, 10)
    );
    assert_eq!(ejection.duration, Duration::from_secs(30));
    let most = requests("retry: {backoff: {base: 1s}}")
        .retry
        .unwrap()
        .backoff
        .most;
    assert_eq!(most, Duration::from_secs(10));
}

#[test]
fn policies_about_requests_are_bounded() {
    refused([
        (
            policy("timeouts: {request: 0s}"),
            "spec.timeouts.request",
            "longer than zero",
        ),
        (
            policy("timeouts: {request: 1s, attempt: 2s}"),
            "spec.timeouts.attempt",
            "longer",
        ),
        (
            policy("retry: {backoff: {base: 1s, most: 1ms}}"),
            "spec.retry.backoff",
            "shorter",
        ),
        (
            policy("retryBudget: {percent: 101}"),
            "spec.retryBudget.percent",
            "100",
        ),
        (
            policy("limits: {requestsPerEndpoint: 0}"),
            "spec.limits.requestsPerEndpoint",
            "1",
        ),
        (
            policy("ejection: {mostPercent: 0}"),
            "spec.ejection.mostPercent",
            "100",
        ),
        (
            policy("ejection: {consecutive: 3}"),
            "spec.ejection.consecutive",
            "consecutiveFailures",
        ),
    ]);
}
