package main

import (
	"log"
	"net"
	"net/http"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"
)

// registry ADDRESS FOLDER [NETWORK]: a registry of images at the address, in this network and in another, which is named by
// its file: the engine pushes here, and the node pulls there.
func images(arguments []string) error {
	address := arguments[0]
	here, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	listeners := []net.Listener{here}
	for _, network := range arguments[2:] {
		there, err := listenIn(network, address)
		if err != nil {
			return err
		}
		listeners = append(listeners, there)
	}
	handler := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(arguments[1])),
		registry.Logger(log.New(os.Stderr, "", log.LstdFlags)),
	)
	ended := make(chan error)
	for _, listener := range listeners {
		go func() { ended <- http.Serve(listener, handler) }()
	}
	return <-ended
}

// listenIn opens the socket on a thread that enters the network for it, and is not used for anything else.
func listenIn(network, address string) (listener net.Listener, err error) {
	file, err := os.Open(network)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			listener, err = net.Listen("tcp", address)
		}
	}()
	<-done
	return listener, err
}
