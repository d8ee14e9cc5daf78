-- wrk's own figures, as one line of JSON. Times are in microseconds.
function done(summary, latency, requests)
    local failed = summary.errors
    print(string.format(
        '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failures":%d}',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        failed.connect + failed.read + failed.write + failed.status + failed.timeout
    ))
end
