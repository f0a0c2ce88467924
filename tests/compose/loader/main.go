// Loads compose files as docker compose 2 does, by its own library, and prints each service with its networks.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv, cli.WithEnvFiles(), cli.WithDotEnv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, name := range project.ServiceNames() {
		networks := []string{}
		for network := range project.Services[name].Networks {
			networks = append(networks, network)
		}
		sort.Strings(networks)
		fmt.Println(name, strings.Join(networks, " "))
	}
}
