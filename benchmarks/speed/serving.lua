-- Posts one text after another from the file in TEXTS, and prints what came of it as JSON.
local bodies, place = {}, 0
for line in io.lines(os.getenv("TEXTS")) do
  bodies[#bodies + 1] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, line)
end

function request()
  place = place % #bodies + 1
  return bodies[place]
end

function done(summary, latency)
  local lost = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %.1f, "p95": %.1f, "p99": %.1f, "lost": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    lost.connect + lost.read + lost.write + lost.status + lost.timeout))
end
