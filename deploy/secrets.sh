#!/bin/sh
# Makes the secrets that compose.yaml and authsvc.service hand out, in deploy/secrets or in the folder that is named.
# What is there already stays as it is, so it may be run again at any time: after an update it makes what is new.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
cd "$folder"

make() { # FILE VALUE
  if [ ! -s "$1" ]; then
    # Whole or not at all. The folder is its owner's alone; inside it the containers' users, each another, must read.
    printf '%s\n' "$2" >"$1.new"
    chmod 644 "$1.new"
    mv "$1.new" "$1"
    echo "made $folder/$1"
  fi
}

# A password that is not in the URL would not be the database's.
if [ ! -s database_url ]; then
  password=$(openssl rand -hex 24)
  make postgres_password "$password"
  password=$(cat postgres_password)
  make database_url "postgresql://authsvc:$password@postgres/authsvc"
fi
key=$(openssl rand -base64 48)
make secret_key "$key"
# The next key: known everywhere before it is used, so that changing keys is one round of restarts.
key=$(openssl rand -base64 48)
make secret_key_fallbacks "$key"
password=$(openssl rand -base64 18)
make admin_password "$password"
