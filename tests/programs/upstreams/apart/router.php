<?php
// The application for PHP's built-in server. It has read the body before this begins.

[, $way, $name] = explode("/", $_SERVER["REQUEST_URI"] . "//");
http_response_code(["empty" => 204, "unchanged" => 304][$way] ?? 200);
header("Content-Type: text/plain");
echo $_SERVER["REQUEST_METHOD"], " ", $name, "\n";
