// Package testserver stands in for k8s.io/apiserver/pkg/storage/etcd3/testserver.
//
// The apiserver's own storage tests start an embedded etcd for each test through that package. scripts/contract
// builds them with this file in its place: the same two functions, but the store is a process, the program that
// CONTRACT_SERVER names. So the tests run unchanged, against Holdfast or, to learn what they expect, a real etcd.
//
// Environment:
//   - CONTRACT_SERVER: the program, which understands etcd's flags;
//   - CONTRACT_FLAGS: further flags, separated by blanks.
//
// Invariants:
//   - each call starts a fresh store in a directory of its own; nothing is shared between tests;
//   - the process is gone, and was asked politely first, when the test ends; if it does not stop within
//     stopLimit, or stops in any other way than it was asked to, that fails the test;
//   - the process dies with the test binary, whatever ends that.
//
// Deliberately missing: anything of embed.Config that none of those tests sets.
package testserver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	// A loaded machine of two cores still starts a node within this.
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
	// How much of the node's log a failing test shows.
	logTailBytes = 16 << 10
	// Where nodes listen: below the ports that the kernel gives to outgoing connections, none of which takes one before the
	// node does.
	portsFirst, portsCount = 12_000, 20_000
	// From the first port of a process to that of the next one.
	portsApart = 7_919
)

// NewTestConfig returns a configuration with free ports and a directory that ends with the test.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	config := embed.NewConfig()
	client, peer := freeURL(t), freeURL(t)
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.Dir = t.TempDir()
	return config
}

// RunEtcd starts a node with config (nil: NewTestConfig's) and returns a client of it that records what it is asked.
func RunEtcd(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	if config == nil {
		config = NewTestConfig(t)
	}
	exited := start(t, config)
	// gRPC waits a second after a refused connection: dial when there is somebody.
	waitUntilListening(t, config.AdvertiseClientUrls[0].Host, exited)

	tls, err := config.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	endpoints := make([]string, 0, len(config.AdvertiseClientUrls))
	for _, address := range config.AdvertiseClientUrls {
		endpoints = append(endpoints, address.String())
	}
	if config.ClientTLSInfo.Empty() {
		tls = nil
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tls,
		Endpoints:   endpoints,
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	waitUntilServing(t, client.Client, endpoints[0], exited)

	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

// portsDrawn is how many ports this process has looked at.
var portsDrawn atomic.Uint32

// freeURL is one that nobody listened on a moment ago, and that this process has not given out before.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	// Test programs run at the same time: the next one begins far away.
	first := uint32(os.Getpid()) * portsApart
	for range portsCount {
		port := portsFirst + (first+portsDrawn.Add(1))%portsCount
		host := net.JoinHostPort("localhost", strconv.Itoa(int(port)))
		if listener, err := net.Listen("tcp", host); err == nil {
			listener.Close()
			return url.URL{Scheme: "http", Host: host}
		}
	}
	t.Fatal("no port is free")
	return url.URL{}
}

// flags says in etcd's flags what config says in its fields.
func flags(config *embed.Config) []string {
	list := func(urls []url.URL) string {
		texts := make([]string, 0, len(urls))
		for _, one := range urls {
			texts = append(texts, one.String())
		}
		return strings.Join(texts, ",")
	}
	arguments := []string{
		"--name=" + config.Name,
		"--data-dir=" + config.Dir,
		"--listen-client-urls=" + list(config.ListenClientUrls),
		"--advertise-client-urls=" + list(config.AdvertiseClientUrls),
		"--listen-peer-urls=" + list(config.ListenPeerUrls),
		"--initial-advertise-peer-urls=" + list(config.AdvertisePeerUrls),
		"--initial-cluster=" + config.InitialCluster,
	}
	if config.WatchProgressNotifyInterval != 0 {
		arguments = append(arguments, "--watch-progress-notify-interval="+config.WatchProgressNotifyInterval.String())
	}
	if config.QuotaBackendBytes != 0 {
		arguments = append(arguments, "--quota-backend-bytes="+strconv.FormatInt(config.QuotaBackendBytes, 10))
	}
	if tls := config.ClientTLSInfo; tls.CertFile != "" {
		arguments = append(arguments, "--cert-file="+tls.CertFile, "--key-file="+tls.KeyFile)
		if tls.TrustedCAFile != "" {
			arguments = append(arguments, "--trusted-ca-file="+tls.TrustedCAFile)
		}
		if tls.ClientCertAuth {
			arguments = append(arguments, "--client-cert-auth")
		}
	}
	return append(arguments, strings.Fields(os.Getenv("CONTRACT_FLAGS"))...)
}

// start runs the node; the returned channel closes when it has exited.
func start(t testing.TB, config *embed.Config) <-chan struct{} {
	t.Helper()
	program := os.Getenv("CONTRACT_SERVER")
	if program == "" {
		t.Fatal("CONTRACT_SERVER names no program; run scripts/contract")
	}
	// Not in the node's directory: that one belongs to it alone.
	log := filepath.Join(t.TempDir(), "log")
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command(program, flags(config)...)
	node.Stdout, node.Stderr = output, output
	node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	var result error
	go func() {
		result = node.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		defer output.Close()
		select {
		case <-exited:
			t.Errorf("the node ended during the test: %v", result)
		default:
			stop(t, node, exited, &result)
		}
		if t.Failed() {
			t.Logf("end of the node's log:\n%s", tail(log))
		}
	})
	return exited
}

// stop asks the node to end, as a process manager would, and insists that it does.
func stop(t testing.TB, node *exec.Cmd, exited <-chan struct{}, result *error) {
	_ = node.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(stopLimit):
		t.Errorf("the node did not stop within %v of SIGTERM", stopLimit)
		_ = node.Process.Kill()
		<-exited
		return
	}
	var status *exec.ExitError
	if errors.As(*result, &status) {
		wait := status.Sys().(syscall.WaitStatus)
		if !wait.Signaled() || wait.Signal() != syscall.SIGTERM {
			t.Errorf("the node did not stop cleanly: %v", *result)
		}
	}
}

func waitUntilListening(t testing.TB, address string, exited <-chan struct{}) {
	t.Helper()
	retry(t, exited, func() error {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
		}
		return err
	})
}

func waitUntilServing(t testing.TB, client *clientv3.Client, endpoint string, exited <-chan struct{}) {
	t.Helper()
	retry(t, exited, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Status(ctx, endpoint)
		return err
	})
}

// retry repeats attempt until it succeeds, the node is gone or startLimit is over.
func retry(t testing.TB, exited <-chan struct{}, attempt func() error) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not serve after %v: %v", startLimit, err)
		}
		select {
		case <-exited:
			t.Fatal("the node ended before it served")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(content) > logTailBytes {
		content = content[len(content)-logTailBytes:]
		if _, rest, found := bytes.Cut(content, []byte("\n")); found {
			content = rest
		}
	}
	return string(content)
}
