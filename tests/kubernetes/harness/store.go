package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Transport is how the apiserver reaches the store.
type Transport string

// The transports.
const (
	Plain Transport = "plain"
	MTLS  Transport = "mtls"
	Unix  Transport = "unix"
)

// readyLine is what process managers wait for in an etcd's output.
const readyLine = "ready to serve client requests"

// Store is a node whose data survives the process.
type Store struct {
	*Process
	URL       string
	program   string
	arguments []string
	log       string
	// What a client needs; empty without TLS.
	ca     string
	client Pair
}

// newStore prepares a node in directory; Start starts it.
func newStore(program, directory string, transport Transport, authority *Authority) (*Store, error) {
	address, _, err := freeAddress()
	if err != nil {
		return nil, err
	}
	peer, _, err := freeAddress()
	if err != nil {
		return nil, err
	}
	store := &Store{program: program, log: filepath.Join(directory, "store.log")}
	var security []string
	switch transport {
	case Plain:
		store.URL = "http://" + address
	case Unix:
		// The path of a socket may have 107 bytes; the caller's directory is short enough, or the store will say so.
		store.URL = "unix://" + filepath.Join(directory, "store.sock")
	case MTLS:
		store.URL = "https://" + address
		server, err := authority.issue("store")
		if err != nil {
			return nil, err
		}
		if store.client, err = authority.issue("kube-apiserver-etcd-client"); err != nil {
			return nil, err
		}
		store.ca = authority.CA()
		security = []string{
			"--cert-file=" + server.Certificate, "--key-file=" + server.Key,
			"--trusted-ca-file=" + store.ca, "--client-cert-auth=true",
		}
	default:
		return nil, fmt.Errorf("unknown transport %q: want %s, %s or %s", transport, Plain, MTLS, Unix)
	}
	store.arguments = append([]string{
		"--name=node",
		"--data-dir=" + filepath.Join(directory, "data"),
		"--listen-client-urls=" + store.URL,
		"--advertise-client-urls=" + store.URL,
		"--listen-peer-urls=http://" + peer,
		"--initial-advertise-peer-urls=http://" + peer,
		"--initial-cluster=node=http://" + peer,
		// As kubeadm sets it: the apiserver learns of quiet times from it.
		"--watch-progress-notify-interval=5s",
	}, security...)
	return store, nil
}

// Start starts the node, again with the same command line after it ended, and waits until it serves.
func (s *Store) Start() error {
	var before int64
	if information, err := os.Stat(s.log); err == nil {
		before = information.Size()
	}
	process, err := startProcess("the store", s.program, s.arguments, s.log)
	if err != nil {
		return err
	}
	s.Process = process
	return process.until(func() error {
		content, err := os.ReadFile(s.log)
		if err != nil {
			return err
		}
		if !bytes.Contains(content[before:], []byte(readyLine)) {
			return errors.New("its output has no line with: " + readyLine)
		}
		return nil
	})
}

// apiserverFlags are what a kube-apiserver needs to use this store.
func (s *Store) apiserverFlags() []string {
	flags := []string{"--etcd-servers=" + s.URL}
	if s.ca != "" {
		flags = append(flags, "--etcd-cafile="+s.ca, "--etcd-certfile="+s.client.Certificate, "--etcd-keyfile="+s.client.Key)
	}
	return flags
}
