// The programs of a small Kubernetes for the tests, in one: those of the project itself and etcd, unchanged, and what
// stands for all else that a cluster's operator brings: names, network policies, a registry, and the node's first process.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var theirs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubelet":                 kubelet.NewKubeletCommand,
}

var ours = map[string]func([]string) error{
	"etcd":     etcd,
	"names":    names,
	"node":     node,
	"policies": policies,
	"registry": images,
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("which program?"))
	}
	os.Args = os.Args[1:]
	if command := theirs[os.Args[0]]; command != nil {
		os.Exit(cli.Run(command()))
	}
	program := ours[os.Args[0]]
	if program == nil {
		fail(fmt.Errorf("%s is none of the programs", os.Args[0]))
	}
	if err := program(os.Args[1:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
