-- The request of ab without -k: HTTP/1.0, so that each has a connection of its own.
local text

function init()
    local host = "Host: " .. wrk.headers["Host"]
    text = table.concat({"GET / HTTP/1.0", host, "User-Agent: ApacheBench/2.3", "Accept: */*", "", ""}, "\r\n")
end

function request()
    return text
end
