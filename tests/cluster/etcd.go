package main

import (
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcd FOLDER: the store of the API server, for clients on this host alone, and no copy of what a test wrote is synced
// to the disk, since none outlives the test.
func etcd(arguments []string) error {
	config := embed.NewConfig()
	config.Dir = arguments[0]
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	clients, peers := url.URL{Scheme: "http", Host: "127.0.0.1:2379"}, url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	return <-server.Err()
}
