package harness

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options of a control plane.
type Options struct {
	// Directory takes every file; it must exist and be empty, and its path be short (a socket may lie in it).
	Directory string
	// The programs.
	Store, Apiserver, Kubectl string
	// Transport between apiserver and store.
	Transport Transport
	// Further flags of the apiserver.
	ApiserverFlags []string
}

// ControlPlane is a store and a kube-apiserver on it.
type ControlPlane struct {
	Store      *Store
	Apiserver  *Process
	URL        string
	Kubeconfig string
	HTTP       *http.Client
	options    Options
	arguments  []string
}

// The only user. The authority of a test is as good as its directory's permissions.
const adminToken = "holdfast-test-admin"

// New prepares a control plane; Start starts it.
func New(options Options) (*ControlPlane, error) {
	in := func(name string) string { return filepath.Join(options.Directory, name) }
	authority, err := newAuthority(in("pki"))
	if err != nil {
		return nil, err
	}
	store, err := newStore(options.Store, options.Directory, options.Transport, authority)
	if err != nil {
		return nil, err
	}
	address, port, err := freeAddress()
	if err != nil {
		return nil, err
	}
	serving, err := authority.issue("kube-apiserver")
	if err != nil {
		return nil, err
	}
	if err := writeSigningKey(in("accounts.key")); err != nil {
		return nil, err
	}
	tokens := adminToken + ",admin,admin,system:masters\n"
	if err := os.WriteFile(in("tokens.csv"), []byte(tokens), 0o600); err != nil {
		return nil, err
	}
	plane := &ControlPlane{Store: store, URL: "https://" + address, Kubeconfig: in("kubeconfig"), options: options}
	plane.arguments = append(store.apiserverFlags(),
		// An address of the range for documentation: it lands in an object, nobody dials it, loopback is refused there.
		"--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--secure-port="+port,
		"--cert-dir="+in("apiserver"), "--tls-cert-file="+serving.Certificate, "--tls-private-key-file="+serving.Key,
		"--client-ca-file="+authority.CA(), "--token-auth-file="+in("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+in("accounts.key"), "--service-account-signing-key-file="+in("accounts.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
	)
	plane.arguments = append(plane.arguments, options.ApiserverFlags...)
	if err := plane.writeKubeconfig(authority.CA()); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority.certificate)
	plane.HTTP = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
	}}
	return plane, nil
}

// Start starts the store and the apiserver and waits until both serve.
func (c *ControlPlane) Start() error {
	if err := c.Store.Start(); err != nil {
		return err
	}
	return c.StartApiserver()
}

// StartApiserver starts the apiserver, again after it ended, and waits until it is ready.
func (c *ControlPlane) StartApiserver() error {
	log := filepath.Join(c.options.Directory, "apiserver.log")
	process, err := startProcess("kube-apiserver", c.options.Apiserver, c.arguments, log)
	if err != nil {
		return err
	}
	c.Apiserver = process
	return process.until(func() error {
		response, err := c.Request("GET", "/readyz?verbose", "", nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		body, _ := io.ReadAll(response.Body)
		return errors.New(string(body))
	})
}

// Stop stops what runs, the apiserver first.
func (c *ControlPlane) Stop() error {
	var failures []error
	if c.Apiserver != nil {
		failures = append(failures, c.Apiserver.Stop())
	}
	if c.Store.Process != nil {
		failures = append(failures, c.Store.Stop())
	}
	return errors.Join(failures...)
}

// Request asks the apiserver as the administrator; path begins with a slash.
func (c *ControlPlane) Request(method, path, contentType string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequest(method, c.URL+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return c.HTTP.Do(request)
}

// KubectlCommand is a kubectl that talks to this control plane and knows nothing of the user's configuration.
func (c *ControlPlane) KubectlCommand(arguments ...string) *exec.Cmd {
	command := exec.Command(c.options.Kubectl, arguments...)
	command.Env = []string{"KUBECONFIG=" + c.Kubeconfig, "HOME=" + c.options.Directory, "PATH=" + os.Getenv("PATH")}
	return command
}

// Kubectl runs kubectl with the given standard input and returns its output.
func (c *ControlPlane) Kubectl(input string, arguments ...string) (string, error) {
	command := c.KubectlCommand(arguments...)
	command.Stdin = strings.NewReader(input)
	var failure strings.Builder
	command.Stderr = &failure
	output, err := command.Output()
	if err != nil {
		return string(output), fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, failure.String())
	}
	return string(output), nil
}

func (c *ControlPlane) writeKubeconfig(ca string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: holdfast
contexts: [{name: holdfast, context: {cluster: holdfast, user: admin}}]
clusters: [{name: holdfast, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: admin, user: {token: %q}}]
`, c.URL, ca, adminToken)
	return os.WriteFile(c.Kubeconfig, []byte(text), 0o600)
}
