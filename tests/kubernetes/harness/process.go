package harness

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// Two cores that also build something still start a kube-apiserver within this.
	startLimit = 3 * time.Minute
	// A kube-apiserver waits for its open requests, at most one minute.
	stopLimit = 90 * time.Second
	pollEvery = 20 * time.Millisecond
	// How much of a log an error carries.
	logTailBytes = 8 << 10
	// Where programs listen: below the ports that the kernel gives to outgoing connections, none of which takes one before
	// the program does.
	portsFirst, portsCount = 12_000, 20_000
	// From the first port of a process to that of the next one.
	portsApart = 7_919
)

// Process is a program that runs, or ran, with its output in a file.
type Process struct {
	name    string
	log     string
	command *exec.Cmd
	exited  chan struct{}
	result  error
}

// startProcess runs program; its output is appended to the file log.
func startProcess(name, program string, arguments []string, log string) (*Process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = output, output
	// A process group of its own: the terminal's ctrl-C is ours to hand on, in order.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	process := &Process{name: name, log: log, command: command, exited: make(chan struct{})}
	go func() {
		process.result = command.Wait()
		close(process.exited)
	}()
	return process, nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err says how the process ended, with the end of its log.
func (p *Process) Err() error {
	return fmt.Errorf("%s ended (%v); the end of %s:\n%s", p.name, p.result, p.log, p.tail())
}

// Kill ends the process without a chance to do anything, as a power failure would.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// Stop asks the process to end and waits for it; anything but a clean end is an error.
func (p *Process) Stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		p.Kill()
		return fmt.Errorf("%s did not stop within %v of SIGTERM; the end of its log:\n%s", p.name, stopLimit, p.tail())
	}
	var status *exec.ExitError
	if errors.As(p.result, &status) {
		wait := status.Sys().(syscall.WaitStatus)
		if !wait.Signaled() || wait.Signal() != syscall.SIGTERM {
			return p.Err()
		}
	}
	return nil
}

// until repeats attempt until it succeeds; that the process ends meanwhile, or startLimit, is an error.
func (p *Process) until(attempt func() error) error {
	for deadline := time.Now().Add(startLimit); ; {
		err := attempt()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v: %w; the end of its log:\n%s", p.name, startLimit, err, p.tail())
		}
		select {
		case <-p.exited:
			return p.Err()
		case <-time.After(pollEvery):
		}
	}
}

func (p *Process) tail() string {
	content, err := os.ReadFile(p.log)
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

// portsDrawn is how many ports this process has looked at.
var portsDrawn atomic.Uint32

// freeAddress is an address that nobody listened on a moment ago, and that this process has not given out before.
func freeAddress() (address string, port string, err error) {
	// Test programs run at the same time: the next one begins far away.
	first := uint32(os.Getpid()) * portsApart
	for range portsCount {
		port = strconv.Itoa(int(portsFirst + (first+portsDrawn.Add(1))%portsCount))
		address = net.JoinHostPort("127.0.0.1", port)
		listener, err := net.Listen("tcp", address)
		if err == nil {
			listener.Close()
			return address, port, nil
		}
	}
	return "", "", errors.New("no port is free")
}
