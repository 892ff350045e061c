#!/bin/bash
# topo.sh - throw-away load-balancer network made of network namespaces only (no host interface, route or rule is touched).
#
#   topo.sh up | down | status | reset            (up and down are idempotent)
#   topo.sh exec NODE CMD...                      run CMD in a node (client rtr lb1 lb2 b1 b2 b3 sw)
#   topo.sh cut NODE | heal NODE                  pull / re-plug the node's cable at the switch side (carrier goes down on both ends)
#   topo.sh mute NODE | unmute NODE               silently drop everything at the switch port (carrier stays up: "grey" failure)
#   topo.sh loss NODE PCT | loss NODE 0           random loss towards + from a node (nft numgen on the switch port)
#   topo.sh rate NODE KBIT | rate NODE 0          tbf shaper towards a node
#   topo.sh vip add|del|show NODE [IP]            move a /32 VIP by hand (with gratuitous ARP), or put it on lo of a backend (DSR)
#
# env: P=ha_ (prefix, <=7 chars)  NB=3 (backends)  NLB=2 (balancers)  NET=10.77  V6=1  OFFLOAD=off|on  MTU=1500  DGW=rtr|lb
#
#        client eth1 ---------- rtr eth1      NET.9.0/24   (.10 -- .1)      routed side: anycast / BGP / ECMP
#        client eth0 --+
#        rtr    eth0 --+-- sw:br0             NET.0.0/24   client .10  rtr .1  lb1 .11 lb2 .12  b1 .21 b2 .22 b3 .23
#        lb1..  eth0 --+                      fd77::/64    the same last byte (fd77::11 ...)
#        b1..b3 eth0 --+                      VRRP VIP NET.0.100 (fd77::100); anycast VIPs NET.100.0/24 routed by rtr
set -u
P=${P:-ha_}; NB=${NB:-3}; NLB=${NLB:-2}; NET=${NET:-10.77}; V6=${V6:-1}; OFFLOAD=${OFFLOAD:-off}; MTU=${MTU:-1500}; DGW=${DGW:-rtr}
SW=${P}sw
die(){ echo "topo: $*" >&2; exit 1; }
(( ${#P} >= 1 && ${#P} <= 7 )) || die "P must have 1..7 characters"
nodes(){ printf 'client\nrtr\n'; seq -f 'lb%g' 1 "$NLB"; seq -f 'b%g' 1 "$NB"; }
last(){ case $1 in rtr) echo 1;; client) echo 10;; lb*) echo $((10+${1#lb}));; b*) echo $((20+${1#b}));; esac; }
have(){ [ -e "/run/netns/$1" ] || [ -e "/var/run/netns/$1" ]; }
all_ns(){ ip netns list | awk -v p="$P" 'index($1,p)==1{print $1}'; }      # whatever the prefix owns, also with another NB/NLB
nsx(){ ip netns exec "$@"; }

sysctls(){ # $1 node -> lines key=value
  cat <<S
net.ipv4.ip_unprivileged_port_start=0
net.ipv4.conf.all.rp_filter=0
net.ipv4.conf.default.rp_filter=0
net.ipv4.conf.all.arp_notify=1
net.ipv4.conf.default.arp_notify=1
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0
net.ipv4.conf.all.accept_redirects=0
net.ipv4.conf.default.accept_redirects=0
net.ipv6.conf.all.accept_dad=0
net.ipv6.conf.default.accept_dad=0
net.ipv6.conf.default.accept_ra=0
net.ipv6.conf.all.ndisc_notify=1
net.ipv6.conf.default.ndisc_notify=1
S
  case $1 in
    lb*)    echo net.ipv4.ip_forward=1; echo net.ipv6.conf.all.forwarding=1
            echo net.ipv4.ip_nonlocal_bind=1; echo net.ipv6.ip_nonlocal_bind=1
            echo net.ipv4.conf.all.arp_ignore=1; echo net.ipv4.conf.all.arp_announce=2;;
    rtr)    echo net.ipv4.ip_forward=1; echo net.ipv6.conf.all.forwarding=1
            echo net.ipv4.fib_multipath_hash_policy=1; echo net.ipv6.fib_multipath_hash_policy=1
            echo net.ipv4.fib_multipath_use_neigh=1
            echo net.ipv4.conf.all.arp_accept=1;;
    client) echo net.ipv4.conf.all.arp_accept=1; echo net.ipv4.ip_local_port_range=10000 65000;;
    b*)     echo net.ipv4.conf.all.arp_ignore=1; echo net.ipv4.conf.all.arp_announce=2;;   # DSR: VIP on lo must not answer ARP
    sw)     echo net.bridge.bridge-nf-call-iptables=0; echo net.bridge.bridge-nf-call-ip6tables=0; echo net.bridge.bridge-nf-call-arptables=0;;
  esac
}
set_sysctls(){ # write straight to /proc/sys of the namespace; one exec per node
  sysctls "$1" | nsx "${P}$1" sh -c 'while IFS== read -r k v; do f=/proc/sys/$(printf %s "$k" | tr . /); [ -e "$f" ] && printf %s "$v" >"$f" 2>/dev/null || { [ -e "$f" ] && echo "topo: cannot set $k" >&2; }; done; :'
}
offload(){ # $1 ns $2 dev
  [ "$OFFLOAD" = off ] || return 0
  # full checksums in every frame (XDP / AF_XDP / raw rewriting see real bytes) and frames <= MTU; GRO stays ON (veth needs its NAPI for XDP_TX/REDIRECT)
  nsx "$1" ethtool -K "$2" tx off sg off tso off gso off >/dev/null 2>&1
}
up(){
  local n ns i
  if have "$SW" && status_quiet; then echo "topo $P: already up"; return 0; fi
  [ -n "$(all_ns)" ] && down
  ip netns add "$SW" || die "cannot create namespaces (root?)"
  set_sysctls sw
  ip -n "$SW" link set lo up
  ip -n "$SW" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 30000 || die bridge
  ip -n "$SW" link set br0 mtu "$MTU" up
  for n in $(nodes); do
    ns=$P$n; i=$(last "$n")
    ip netns add "$ns" || die "netns $ns"
    set_sysctls "$n"
    ip -n "$SW" link add "p_$n" mtu "$MTU" type veth peer name eth0 mtu "$MTU" address "02:77:00:00:00:$(printf %02x "$i")" netns "$ns" || die "veth $n"
    offload "$SW" "p_$n"; offload "$ns" eth0
    ip -n "$SW" link set "p_$n" master br0 up
    ip -n "$ns" link set lo up; ip -n "$ns" link set eth0 up
    ip -n "$ns" addr add "$NET.0.$i/24" brd + dev eth0
    [ "$V6" = 1 ] && ip -n "$ns" -6 addr add "fd77::$i/64" dev eth0 nodad
  done
  # routed side
  ip -n "${P}rtr" link add eth1 mtu "$MTU" address 02:77:09:00:00:01 type veth peer name eth1 mtu "$MTU" address 02:77:09:00:00:10 netns "${P}client" || die "veth rtr-client"
  offload "${P}rtr" eth1; offload "${P}client" eth1
  ip -n "${P}rtr" addr add "$NET.9.1/24" dev eth1;     ip -n "${P}rtr" link set eth1 up
  ip -n "${P}client" addr add "$NET.9.10/24" dev eth1; ip -n "${P}client" link set eth1 up
  ip -n "${P}client" route add "$NET.100.0/24" via "$NET.9.1"
  [ "$V6" = 1 ] && { ip -n "${P}rtr" -6 addr add fd77:9::1/64 dev eth1 nodad; ip -n "${P}client" -6 addr add fd77:9::10/64 dev eth1 nodad
                     ip -n "${P}client" -6 route add fd77:100::/64 via fd77:9::1; }
  for n in $(nodes); do case $n in lb*|b*)
      local gw=$NET.0.1 gw6=fd77::1
      [ "$DGW" = lb ] && [[ $n == b* ]] && { gw=$NET.0.11; gw6=fd77::11; }
      ip -n "$P$n" route add default via "$gw"; [ "$V6" = 1 ] && ip -n "$P$n" -6 route add default via "$gw6";; esac; done
  status_quiet || die "came up incomplete"
  echo "topo $P: up ($(nodes | wc -l) nodes, NET=$NET, offload=$OFFLOAD)"
}
down(){
  local ns p left
  for ns in $(all_ns); do
    for p in $(ip netns pids "$ns" 2>/dev/null); do [ "$p" != $$ ] && [ "$p" != "$BASHPID" ] && kill -TERM "$p" 2>/dev/null; done; done
  left=1; for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=; for ns in $(all_ns); do left+="$(ip netns pids "$ns" 2>/dev/null)"; done; [ -z "$left" ] && break; sleep 0.1; done
  for ns in $(all_ns); do for p in $(ip netns pids "$ns" 2>/dev/null); do kill -KILL "$p" 2>/dev/null; done; done   # also ends SIGSTOPped ones
  for ns in $(all_ns); do ip netns del "$ns"; done
  [ -z "$(all_ns)" ] || die "left: $(all_ns)"
  echo "topo $P: down"
}
status_quiet(){
  local n; have "$SW" || return 1
  for n in $(nodes); do have "$P$n" || return 1
    [ -e "/run/netns/$P$n" ] && ip -n "$P$n" -4 -br addr show dev eth0 2>/dev/null | grep -q "$NET.0.$(last "$n")/24" || return 1; done
}
status(){
  [ -n "$(all_ns)" ] || { echo "topo $P: down"; return 3; }
  status_quiet && echo "topo $P: up" || echo "topo $P: PARTIAL"
  local n; for n in $(nodes); do have "$P$n" || continue
    printf '%-8s %s | procs: %s\n' "$n" "$(ip -n "$P$n" -br addr | awk '$1!="lo"||NF>3{printf "%s %s ",$1,$2; for(i=3;i<=NF;i++) if($i!~/^fe80/) printf "%s ",$i}')" \
      "$(for p in $(ip netns pids "$P$n"); do tr -d '\0' <"/proc/$p/comm" 2>/dev/null | tr '\n' ','; done)"; done
  ip -n "$SW" -br link show master br0 2>/dev/null | awk '{print "port     "$1" "$2}' | sed 's/@[^ ]*//'
}
need(){ have "$P$1" || die "no node $1 (up first)"; }
case ${1:-} in
  up) up;; down) down;; reset) down; up;; status) status;;
  exec) shift; n=$1; shift; need "$n"; exec ip netns exec "$P$n" "$@";;
  cut)  need "$2"; ip -n "$SW" link set "p_$2" down;;
  heal) need "$2"; ip -n "$SW" link set "p_$2" up;;
  mute|unmute|loss)
    need "$2"; t=topo_$2
    nsx "$SW" nft delete table netdev "$t" 2>/dev/null
    [ "$1" = unmute ] && exit 0
    if [ "$1" = mute ]; then r="drop"; else [ "${3:?percent}" = 0 ] && exit 0
      r="numgen random mod 10000 < $(awk -v p="$3" 'BEGIN{printf "%d", p*100}') counter drop"; fi
    nsx "$SW" nft -f - <<N || die nft
table netdev $t {
  chain in  { type filter hook ingress device p_$2 priority 0; $r; }
  chain out { type filter hook egress  device p_$2 priority 0; $r; }
}
N
    ;;
  rate) need "$2"; ip netns exec "$SW" tc qdisc del dev "p_$2" root 2>/dev/null
    [ "${3:?kbit}" = 0 ] || ip netns exec "$SW" tc qdisc add dev "p_$2" root tbf rate "${3}kbit" burst 32kb latency 50ms;;
  vip) n=${3:?node}; need "$n"; ip=${4:-$NET.0.100}; dev=eth0; [[ $n == b* ]] && dev=lo
    case $2 in add) ip -n "$P$n" addr replace "$ip/32" dev $dev; [ $dev = eth0 ] && command -v arping >/dev/null && nsx "$P$n" arping -q -c 1 -U -I eth0 "$ip";  :;;
      del) ip -n "$P$n" addr del "$ip/32" dev $dev;; show) ip -n "$P$n" -br addr show dev $dev;; esac;;
  *) sed -n '2,21p' "$0"; exit 2;;
esac
