package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"
)

// node: the first process of the node's namespaces. It collects the processes that lost their parents, and ends when
// whoever started it closes its standard input, or dies: then the kernel ends all others, and takes their mounts,
// interfaces and firewall rules with them.
func node([]string) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}()
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
