#!/bin/bash
# Runs last, as root, after all packages are installed. If it fails, "goloo create" fails.
set -euo pipefail

cat > /etc/nginx/sites-available/site <<'NGINX'
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    root /var/www/site;
    location = /health { return 200 "ok\n"; }
}
NGINX
rm -f /etc/nginx/sites-enabled/default
ln -sf ../sites-available/site /etc/nginx/sites-enabled/site
nginx -t
systemctl reload-or-restart nginx
curl --fail --silent --show-error --retry 5 --retry-connrefused http://localhost/health
