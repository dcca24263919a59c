// Command up runs a kube-apiserver on a fresh node until ctrl-C, and says how to talk to it. See scripts/kubernetes.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"holdfast/tests/kubernetes/harness"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	options := harness.Options{}
	flag.StringVar(&options.Store, "store", "", "the store's program, which understands etcd's flags")
	flag.StringVar(&options.Apiserver, "apiserver", "", "the kube-apiserver's program")
	flag.StringVar(&options.Kubectl, "kubectl", "", "the kubectl program")
	transport := flag.String("transport", string(harness.MTLS), "plain, mtls or unix: between apiserver and store")
	flag.Parse()
	options.Transport = harness.Transport(*transport)
	options.ApiserverFlags = flag.Args()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	directory, err := os.MkdirTemp("", "holdfast-kubernetes-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	options.Directory = directory
	plane, err := harness.New(options)
	if err != nil {
		return err
	}
	// Stopping twice does no harm; leaving one running does.
	defer plane.Stop()

	fmt.Printf("starting %s and kube-apiserver, over %s\n", options.Store, options.Transport)
	started := make(chan error, 1)
	go func() { started <- plane.Start() }()
	select {
	case <-signals:
		return nil
	case err := <-started:
		if err != nil {
			return err
		}
	}

	fmt.Printf(`
A real kube-apiserver runs at %s on a fresh node at %s.
Its files, logs and data are in %s until ctrl-C stops and removes all.

    export KUBECONFIG=%s PATH=%s:$PATH
    kubectl create configmap greeting --from-literal=text=hello
    kubectl get configmaps --all-namespaces --watch

`, plane.URL, plane.Store.URL, directory, plane.Kubeconfig, filepath.Dir(options.Kubectl))

	select {
	case <-signals:
		fmt.Println("stopping")
		return plane.Stop()
	case <-plane.Store.Exited():
		return plane.Store.Err()
	case <-plane.Apiserver.Exited():
		return plane.Apiserver.Err()
	}
}
