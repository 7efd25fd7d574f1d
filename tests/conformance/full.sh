#!/usr/bin/env bash
# The long run: all 517 cases on io_uring and on epoll, then the compression cases with a context per connection,
# then a sample over TLS. For a release, not for every change.   usage: full.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/run.sh" full --driver both
"$here/run.sh" '12.*,13.*' --driver both --deflate dedicated
"$here/run.sh" quick --driver both --tls
