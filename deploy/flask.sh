#!/bin/sh
# flask with the user, the settings and the secrets of authsvc.service, whether that runs or not. Run it as root:
#
#   /opt/authsvc/deploy/flask.sh account list
set -eu
unit=authsvc-flask-$$
set -- /opt/authsvc/.venv/bin/flask "$@"
for secret in database_url secret_key secret_key_fallbacks admin_password; do
  setting=AUTHSVC_$(echo "$secret" | tr '[:lower:]' '[:upper:]')_FILE
  set -- "--property=LoadCredential=$secret:/etc/authsvc/$secret" \
    "--setenv=$setting=/run/credentials/$unit.service/$secret" "$@"
done
# On a terminal it asks; in a pipe it takes what it is given (--password-stdin).
if [ -t 0 ] && [ -t 1 ]; then terminal=--pty; else terminal=--pipe; fi
exec systemd-run --quiet --collect --wait "$terminal" --unit="$unit" --working-directory=/opt/authsvc \
  --property=User=authsvc --property=UMask=0077 --property=EnvironmentFile=-/etc/authsvc/settings "$@"
