#!/bin/sh
# Changes the configuration of a fednode in Kubernetes, and ends well only if the node runs it.
#
#   reload.sh [-n NAMESPACE] [-m CONFIGMAP] [-p POD] [-d MOUNTED] [-t SECONDS] FOLDER
#
# FOLDER has conf.yaml and peers.yaml as they shall be. In order: the node itself judges them (nothing is touched if it refuses),
# the ConfigMap is replaced, the kubelet's copy in the pod is waited for, the node is asked to reload, and then whether it is well.
#
# Exit codes: 0 the node runs these files; 1 refused, nothing was changed; 2 usage; 3 the files did not reach the pod in time;
# 4 the reload was rejected, rolled back or failed (the ConfigMap has the new files, the node runs the old ones); 5 it reloaded
# and is not ready.
set -eu

namespace= configmap=fednode pod=fednode-0 patience=180
# Where the pod has the ConfigMap. As a whole: a file that is mounted by subPath never changes.
mounted=/etc/fednode

usage() {
    sed -n '4p' "$0" | cut -c 3- >&2
    exit 2
}

while getopts n:m:p:d:t: option; do
    case $option in
        n) namespace=$OPTARG ;;
        m) configmap=$OPTARG ;;
        p) pod=$OPTARG ;;
        d) mounted=$OPTARG ;;
        t) patience=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || usage
folder=$1
for file in conf.yaml peers.yaml; do
    [ -f "$folder/$file" ] || { echo "$folder/$file is not there" >&2; exit 2; }
done

kube() { kubectl ${namespace:+--namespace="$namespace"} "$@"; }
# In the pod, whose FEDNODE_CONFIG names the configuration.
there() { kube exec "$pod" -- "$@"; }
sha() { sha256sum "$1" | cut -d ' ' -f 1; }

echo "== the node judges the files"
next=$(there mktemp -d)
trap 'there rm -rf "$next" >/dev/null 2>&1 || true' EXIT
for file in conf.yaml peers.yaml; do
    kube exec -i "$pod" -- sh -c 'umask 077; cat >"$1"' sh "$next/$file" <"$folder/$file"
done
# Its socket is the running node's: the new file may name another one.
there fednode --config "$next/conf.yaml" check || { echo "refused; nothing was changed" >&2; exit 1; }

echo "== ConfigMap $configmap"
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
kube create configmap "$configmap" --from-file=conf.yaml="$folder/conf.yaml" --from-file=peers.yaml="$folder/peers.yaml" \
    --dry-run=client --output=yaml | kube apply -f -
# A pod that changes is looked at by the kubelet at once, instead of within a minute.
kube annotate pod "$pod" --overwrite "fednode/config=$(sha "$folder/conf.yaml" | cut -c 1-16)" >/dev/null

echo "== the files on their way into $pod (up to $patience s)"
left=$patience
for file in conf.yaml peers.yaml; do
    wanted=$(sha "$folder/$file")
    until [ "$(there sha256sum "$mounted/$file" | cut -d ' ' -f 1)" = "$wanted" ]; do
        [ "$left" -gt 0 ] || {
            echo "$mounted/$file is still the old one; is it mounted by subPath? such a copy never changes" >&2
            exit 3
        }
        left=$((left - 1))
        sleep 1
    done
done

echo "== reload"
# With reload.watch the node may have been quicker; then this says `unchanged`, or once more why it is refused.
there fednode reload -m "reload.sh" || { echo "the node runs what it ran before" >&2; exit 4; }

echo "== health"
kube wait --for=condition=Ready "pod/$pod" --timeout=60s || { there fednode status >&2 || true; exit 5; }
there fednode status
echo "== warnings in the log since then"
kube logs "$pod" --since-time="$began" | grep -E '"level":"(WARN|ERROR)"|^[^ ]+ +(WARN|ERROR) ' || echo "none"
