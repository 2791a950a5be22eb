#!/bin/sh
# In place of a registry that nobody reaches: Podman on a test node, and an image of the name of RamaLama's.
# The program in it tells over HTTP what it was started with and how large the model is that it sees.
set -e
# Nodes are containers on an overlay, with neither controllers for processes nor room for more open files.
mkdir -p /etc/containers
cat > /etc/containers/storage.conf <<'END'
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
cat > /etc/containers/containers.conf <<'END'
[containers]
pids_limit = 0
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
END
apt-get install --yes --no-install-recommends podman curl >/dev/null 2>&1

root=$(mktemp -d)
mkdir -p "$root/usr/bin" "$root/mnt/models"
cat > "$root/usr/bin/llama-server" <<'END'
#!/usr/bin/python3 -I
import http.server, json, os, sys

argv = sys.argv[1:]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        size = os.path.getsize(argv[argv.index("--model") + 1])
        status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
        said = {"argv": argv, "bytes": size, "writable": os.access("/usr", os.W_OK), "capabilities": status["CapEff"]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())


port = int(argv[argv.index("--port") + 1])
http.server.ThreadingHTTPServer((argv[argv.index("--host") + 1], port), Answer).serve_forever()
END
chmod 755 "$root/usr/bin/llama-server"
# The Python of the node with what it is linked to, as the root of the image.
libraries=$(ldd /usr/bin/python3 | grep -o '/[^ ]*')
# shellcheck disable=SC2086  # one word for each
tar --create --dereference --exclude=test --exclude='config-*' /usr/bin/python3 /usr/lib/python3.13 $libraries 2>/dev/null |
    tar --extract --directory="$root"
tar --create --directory="$root" . | podman import --quiet - quay.io/ramalama/ramalama:0.25
rm -rf "$root"

mkdir -p /srv/models
for name in architect swarm vision; do echo weights > /srv/models/$name.gguf; done
