-- Posts the lines of a file as JSON, one after the other, and ends with a JSON document.
--   wrk -t1 -c16 -d5s -s post.lua URL -- BODIES

local requests, at = {}, 0

function init(arguments)
  wrk.headers["Content-Type"] = "application/json"
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, line)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"failed":%d,"mean_us":%.1f,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency.mean, latency:percentile(50), latency:percentile(99), latency.max))
end
