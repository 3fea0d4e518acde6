#!/bin/sh
# The check after a deployment: logs in and out in both dialects, with one wrong guess before (the login forgives it).
#
#   AUTHSVC_SMOKE_USER=NAME AUTHSVC_SMOKE_PASSWORD=... tests/smoke.sh BASE_URL
#
# NAME is an account made for this: role `user`, no two-step verification. One line per check; exit status 0 if all
# hold, 1 if any does not, 2 if called wrongly. Needs curl 7.55 or newer. Prints no secret, and puts none on a command
# line, where others could read it. A certificate of your own: CURL_CA_BUNDLE=file.
set -u

if [ $# -ne 1 ] || [ -z "${AUTHSVC_SMOKE_USER:-}" ] || [ -z "${AUTHSVC_SMOKE_PASSWORD:-}" ]; then
  echo "usage: AUTHSVC_SMOKE_USER=NAME AUTHSVC_SMOKE_PASSWORD=... $0 BASE_URL" >&2
  exit 2
fi
base=${1%/}
case $base in https://*) cookie=__Host-satoken ;; *) cookie=satoken ;; esac
failed=0

# Each sets $answer to the head and the body. What is secret goes through standard input.
get() { answer=$(curl --silent --show-error --max-time 15 --include "$base$1" </dev/null); }
login() { # PATH NAME_FIELD PASSWORD
  answer=$(printf %s "$3" | curl --silent --show-error --max-time 15 --include \
    --data-urlencode "$2=$AUTHSVC_SMOKE_USER" --data-urlencode password@- "$base$1")
}
get_with() { # HEADER PATH
  answer=$(printf '%s\n' "$1" | curl --silent --show-error --max-time 15 --include --header @- "$base$2")
}

expect() { # DESCRIPTION STATUS PATTERN...
  what=$1 wanted=$2 missing=''
  shift 2
  status=$(printf '%s\n' "$answer" | sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p')
  for pattern; do
    printf '%s\n' "$answer" | grep -Eiq "$pattern" || missing=" without: $pattern"
  done
  if [ "$status" = "$wanted" ] && [ -z "$missing" ]; then
    echo "ok    $what"
  else
    # Only what an answer says for people to read: the rest may hold a token.
    said=$(printf '%s\n' "$answer" | grep -Eo '"(reason|msg)": *"[^"]*"' | tail -n 1)
    echo "FAIL  $what (wanted $wanted, got ${status:-no answer}$missing) $said"
    failed=1
  fi
}

get /healthz
expect "the process answers" 200 '"ok"'
[ -n "$answer" ] || exit 1
get /readyz
expect "the database answers" 200 '"ready"'

login /api/auth/login username "no $AUTHSVC_SMOKE_PASSWORD"
expect "/api/auth: a wrong password is refused" 403 '"Wrong username or password\."'
login /api/auth/login username "$AUTHSVC_SMOKE_PASSWORD"
expect "/api/auth: login" 200 '"username":' '^satoken: *[^ ]' "^set-cookie: $cookie=.*HttpOnly"
token=$(printf '%s\n' "$answer" | grep -i '^satoken:' | tr -d '\r' | cut -d ' ' -f 2)
get_with "Cookie: $cookie=$token" /api/auth/login
expect "/api/auth: who am I, by cookie" 200 '"username":'
get_with "Authorization: Bearer $token" /api/auth/verify
expect "/api/auth: verify, by Authorization header" 200 '^remote-id: *[0-9]'
get_with "satoken: $token" /AccAdmin/getLoginInfo
expect "/AccAdmin: the same token is good here too" 200 '"code": *200' '"perList":'
get_with "satoken: $token" /api/auth/logout
expect "/api/auth: logout" 200 '"code": *200'
get_with "satoken: $token" /api/auth/verify
expect "/api/auth: the token is refused from then on" 401 '"Token is revoked\."'
get_with "satoken: $token" /AccAdmin/getLoginInfo
expect "/AccAdmin: and here too" 200 '"code": *401'

login /AccAdmin/doLogin key "$AUTHSVC_SMOKE_PASSWORD"
expect "/AccAdmin: login" 200 '"code": *200' '"tokenValue": *"'
token=$(printf '%s\n' "$answer" | sed -n 's/.*"tokenValue": *"\([^"]*\)".*/\1/p')
get_with "satoken: $token" /AccAdmin/getLoginInfo
expect "/AccAdmin: who am I" 200 '"code": *200' '"perList":'
get_with "satoken: $token" /api/auth/verify
expect "/api/auth: the same token is good here too" 200 '^remote-id: *[0-9]'
get_with "satoken: $token" /AccAdmin/doExit
expect "/AccAdmin: logout" 200 '"code": *200'
get_with "satoken: $token" /AccAdmin/getLoginInfo
expect "/AccAdmin: the token is refused from then on" 200 '"code": *401'

[ "$failed" -eq 0 ] && echo "all checks hold" || echo "not all checks hold"
exit "$failed"
