package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
)

const domain = ".svc.cluster.local."

// names ADDRESS: the addresses of Services by their names, as the specification of Kubernetes' DNS has them, and no
// other name: there is no way out of the cluster. It runs in a pod, by that pod's account.
func names(arguments []string) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services().Lister()
	factory.Start(context.Background().Done())
	for kind, synced := range factory.WaitForCacheSync(context.Background().Done()) {
		if !synced {
			return errors.New("cannot list " + kind.String())
		}
	}
	packets, err := net.ListenPacket("udp", arguments[0])
	if err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	for {
		size, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if answer, err := answered(buffer[:size], services); err == nil {
			_, _ = packets.WriteTo(answer, from)
		}
	}
}

// answered is the answer to a question about one name; what is no such question gets an error, and no answer.
func answered(packet []byte, services listers.ServiceLister) ([]byte, error) {
	var asked dnsmessage.Message
	if err := asked.Unpack(packet); err != nil {
		return nil, err
	}
	if asked.Response || len(asked.Questions) != 1 {
		return nil, errors.New("no question")
	}
	question := asked.Questions[0]
	answer := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: asked.ID, Response: true, Authoritative: true, RecursionDesired: asked.RecursionDesired, RecursionAvailable: true,
		},
		Questions: asked.Questions,
	}
	address, known := addressOf(strings.ToLower(question.Name.String()), services)
	switch {
	case !known:
		answer.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA && address.Is4():
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 5},
			Body:   &dnsmessage.AResource{A: address.As4()},
		}}
	}
	return answer.Pack()
}

func addressOf(name string, services listers.ServiceLister) (netip.Addr, bool) {
	labels := strings.Split(strings.TrimSuffix(name, domain), ".")
	if !strings.HasSuffix(name, domain) || len(labels) != 2 {
		return netip.Addr{}, false
	}
	service, err := services.Services(labels[1]).Get(labels[0])
	if err != nil {
		return netip.Addr{}, false
	}
	address, err := netip.ParseAddr(service.Spec.ClusterIP)
	return address, err == nil
}
