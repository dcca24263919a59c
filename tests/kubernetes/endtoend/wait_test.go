package endtoend

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/tests/kubernetes/harness"
)

// deadline tells when waitLimit is over and wakes whoever waits for a condition then.
type deadline struct {
	timer  *time.Timer
	passed atomic.Bool
}

func newDeadline(wake func()) *deadline {
	d := &deadline{}
	d.timer = time.AfterFunc(waitLimit, func() {
		d.passed.Store(true)
		wake()
	})
	return d
}

func (d *deadline) over() bool { return d.passed.Load() }
func (d *deadline) stop()      { d.timer.Stop() }

// eventually repeats attempt until it succeeds.
func eventually(t *testing.T, description string, attempt func() error) {
	t.Helper()
	for limit := time.Now().Add(waitLimit); ; time.Sleep(250 * time.Millisecond) {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v: %v", description, waitLimit, err)
		}
	}
}

// follower is a kubectl that goes on running, and the lines that it prints.
type follower struct{ lines chan string }

// startKubectl runs kubectl until the test ends.
func startKubectl(t *testing.T, plane *harness.ControlPlane, arguments ...string) *follower {
	t.Helper()
	command := plane.KubectlCommand(arguments...)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// A bound that no test reaches; a kubectl that prints more waits.
	f := &follower{lines: make(chan string, 1000)}
	go func() {
		defer close(f.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			f.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return f
}

// expect waits for lines that, but for blanks, are the wanted ones. Others may come before the first only: a heading.
func (f *follower) expect(t *testing.T, wanted ...string) {
	t.Helper()
	limit := time.After(waitLimit)
	for number := 0; number < len(wanted); {
		select {
		case line, open := <-f.lines:
			text := strings.Join(strings.Fields(line), " ")
			switch {
			case !open:
				t.Fatalf("kubectl ended before %q", wanted[number])
			case text == wanted[number]:
				number++
			case number > 0:
				t.Fatalf("kubectl says %q, not %q", text, wanted[number])
			}
		case <-limit:
			t.Fatalf("kubectl did not say %q within %v", wanted[number], waitLimit)
		}
	}
}

// showTail puts the end of a file into the test's log.
func showTail(t *testing.T, path string) {
	t.Helper()
	const tailBytes = 8 << 10
	content, err := os.ReadFile(path)
	if err != nil {
		t.Log(err)
		return
	}
	if len(content) > tailBytes {
		content = content[len(content)-tailBytes:]
		if _, rest, found := bytes.Cut(content, []byte("\n")); found {
			content = rest
		}
	}
	t.Logf("the end of %s:\n%s", path, content)
}
