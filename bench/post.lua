-- Requests with a body, on kept connections.
wrk.method = "POST"
wrk.body = string.rep("x", 100)
