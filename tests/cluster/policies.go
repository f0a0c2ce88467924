package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// policies KUBECONFIG: keeps the NetworkPolicies of a cluster of one node, whose pods reach one another through the
// node's FORWARD chain. A pod that no policy selects in a direction is open in it; another one takes or opens just the
// connections that one of its policies names. The node itself may call every pod. IPv4 alone; it ends at what it does
// not keep: ranges of ports, and exceptions of networks.
func policies(arguments []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", arguments[0])
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	seen := world{
		pods:       factory.Core().V1().Pods().Informer().GetStore(),
		namespaces: factory.Core().V1().Namespaces().Informer().GetStore(),
		policies:   factory.Networking().V1().NetworkPolicies().Informer().GetStore(),
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(),
		factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(context.Background().Done())
	factory.WaitForCacheSync(context.Background().Done())
	var chains []string
	for range changed {
		rules, err := seen.rules()
		if err != nil {
			return err
		}
		if chains, err = load(rules, chains); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond) // what changes together is loaded together
	}
	return nil
}

// A direction of connections, seen from the pod that a policy selects.
type direction struct {
	kind networking.PolicyType
	own  string // how the pod is matched
	peer string // how the other end is matched
	tag  string
}

var directions = []direction{
	{networking.PolicyTypeIngress, "-d", "-s", "I"},
	{networking.PolicyTypeEgress, "-s", "-d", "E"},
}

type world struct{ pods, namespaces, policies cache.Store }

// rules are the lines of each chain; POLICIES leads to the others.
func (w world) rules() (map[string][]string, error) {
	main := []string{"-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"}
	chains := map[string][]string{}
	for _, pod := range w.running() {
		for _, direction := range directions {
			isolated, allowed := false, []string{}
			for _, each := range w.policies.List() {
				policy := each.(*networking.NetworkPolicy)
				chosen, err := selects(&policy.Spec.PodSelector, pod.Labels)
				if err != nil {
					return nil, err
				}
				if policy.Namespace != pod.Namespace || !chosen || !slices.Contains(policy.Spec.PolicyTypes, direction.kind) {
					continue
				}
				isolated = true
				lines, err := w.allowed(policy, pod, direction)
				if err != nil {
					return nil, err
				}
				allowed = append(allowed, lines...)
			}
			if isolated {
				chain := direction.tag + "-" + pod.Status.PodIP
				main = append(main, fmt.Sprintf("%s %s -j %s", direction.own, pod.Status.PodIP, chain))
				slices.Sort(allowed)
				chains[chain] = append(slices.Compact(allowed), "-j REJECT --reject-with icmp-admin-prohibited")
			}
		}
	}
	slices.Sort(main[1:])
	chains["POLICIES"] = main
	return chains, nil
}

// allowed are the lines by which a policy lets connections of one pod pass.
func (w world) allowed(policy *networking.NetworkPolicy, pod *core.Pod, towards direction) ([]string, error) {
	lines := []string{}
	add := func(peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) error {
		others, err := w.addresses(peers, policy.Namespace)
		if err != nil {
			return err
		}
		for _, other := range others {
			target := pod
			if towards.kind == networking.PolicyTypeEgress {
				target = w.at(other)
			}
			matches, err := matched(ports, target)
			if err != nil {
				return err
			}
			for _, port := range matches {
				lines = append(lines, fmt.Sprintf("%s %s%s -j RETURN", towards.peer, other, port))
			}
		}
		return nil
	}
	if towards.kind == networking.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			if err := add(rule.From, rule.Ports); err != nil {
				return nil, err
			}
		}
		return lines, nil
	}
	for _, rule := range policy.Spec.Egress {
		if err := add(rule.To, rule.Ports); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// addresses of peers, pods or networks; no peers are everybody.
func (w world) addresses(peers []networking.NetworkPolicyPeer, namespace string) ([]string, error) {
	if len(peers) == 0 {
		return []string{"0.0.0.0/0"}, nil
	}
	found := []string{}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if len(peer.IPBlock.Except) > 0 {
				return nil, errors.New("exceptions of networks are not kept here")
			}
			if prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR); err == nil && prefix.Addr().Is4() {
				found = append(found, prefix.String())
			}
			continue
		}
		for _, pod := range w.running() {
			within := pod.Namespace == namespace
			if peer.NamespaceSelector != nil {
				item, known, _ := w.namespaces.GetByKey(pod.Namespace)
				chosen := false
				if known {
					var err error
					if chosen, err = selects(peer.NamespaceSelector, item.(*core.Namespace).Labels); err != nil {
						return nil, err
					}
				}
				within = chosen
			}
			chosen := true
			if peer.PodSelector != nil {
				var err error
				if chosen, err = selects(peer.PodSelector, pod.Labels); err != nil {
					return nil, err
				}
			}
			if within && chosen {
				found = append(found, pod.Status.PodIP)
			}
		}
	}
	return found, nil
}

// matched are the ports of a rule as iptables matches them; a port by name is that of the pod which is called.
func matched(ports []networking.NetworkPolicyPort, called *core.Pod) ([]string, error) {
	if len(ports) == 0 {
		return []string{""}, nil
	}
	found := []string{}
	for _, port := range ports {
		if port.EndPort != nil {
			return nil, errors.New("ranges of ports are not kept here")
		}
		protocol := core.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		number := 0
		switch {
		case port.Port == nil:
			found = append(found, " -p "+strings.ToLower(string(protocol)))
			continue
		case port.Port.StrVal == "":
			number = port.Port.IntValue()
		case called != nil:
			for _, container := range called.Spec.Containers {
				for _, each := range container.Ports {
					if each.Name == port.Port.StrVal {
						number = int(each.ContainerPort)
					}
				}
			}
		}
		if number != 0 {
			found = append(found, fmt.Sprintf(" -p %s --dport %d", strings.ToLower(string(protocol)), number))
		}
	}
	return found, nil
}

// running are the pods with an address of their own.
func (w world) running() []*core.Pod {
	found := []*core.Pod{}
	for _, each := range w.pods.List() {
		pod := each.(*core.Pod)
		if !pod.Spec.HostNetwork && pod.Status.PodIP != "" && pod.Status.Phase == core.PodRunning {
			found = append(found, pod)
		}
	}
	return found
}

func (w world) at(address string) *core.Pod {
	for _, pod := range w.running() {
		if pod.Status.PodIP == address {
			return pod
		}
	}
	return nil
}

func selects(selector *meta.LabelSelector, has map[string]string) (bool, error) {
	chosen, err := meta.LabelSelectorAsSelector(selector)
	return err == nil && chosen.Matches(labels.Set(has)), err
}

// load replaces all chains at once, and gives their names; those of before that are there no more are removed.
func load(rules map[string][]string, before []string) ([]string, error) {
	var text strings.Builder
	names := []string{}
	text.WriteString("*filter\n")
	for _, name := range before {
		fmt.Fprintf(&text, ":%s - [0:0]\n", name)
	}
	for name := range rules {
		names = append(names, name)
		if !slices.Contains(before, name) {
			fmt.Fprintf(&text, ":%s - [0:0]\n", name)
		}
	}
	if len(before) == 0 {
		text.WriteString("-I FORWARD -j POLICIES\n")
	}
	for name, lines := range rules {
		for _, line := range lines {
			fmt.Fprintf(&text, "-A %s %s\n", name, line)
		}
	}
	for _, name := range before {
		if _, kept := rules[name]; !kept {
			fmt.Fprintf(&text, "-X %s\n", name)
		}
	}
	text.WriteString("COMMIT\n")
	command := exec.Command("iptables-restore", "--noflush", "--wait")
	command.Stdin, command.Stderr = strings.NewReader(text.String()), os.Stderr
	return names, command.Run()
}
