package endtoend

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"

	"holdfast/tests/kubernetes/harness"
)

// object is as much of a Kubernetes object as these tests look at.
type object struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Continue        string            `json:"continue"`
		Remaining       *int64            `json:"remainingItemCount"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Data  map[string]string `json:"data"`
	Items []object          `json:"items"`
	// Of a Status.
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// event is one line of a watch.
type event struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// watcher collects the events of one watch for as long as the apiserver keeps the connection open.
type watcher struct {
	body io.Closer

	mutex  sync.Mutex
	change *sync.Cond
	events []event
	ended  error
}

// watch opens a watch at path, which ends in the query that it begins with.
func watch(t *testing.T, plane *harness.ControlPlane, path string) *watcher {
	t.Helper()
	response, err := plane.Request("GET", path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %s: %s", path, response.Status, text)
	}
	w := &watcher{body: response.Body}
	w.change = sync.NewCond(&w.mutex)
	t.Cleanup(func() { _ = w.body.Close() })
	go w.read(response.Body)
	return w
}

func (w *watcher) read(body io.Reader) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var one event
		err := json.Unmarshal(lines.Bytes(), &one)
		w.mutex.Lock()
		if err != nil {
			w.ended = fmt.Errorf("not an event: %q: %w", lines.Bytes(), err)
		} else {
			w.events = append(w.events, one)
		}
		w.change.Broadcast()
		w.mutex.Unlock()
	}
	w.mutex.Lock()
	if w.ended == nil {
		w.ended = fmt.Errorf("the watch ended: %w", cause(lines.Err()))
	}
	w.change.Broadcast()
	w.mutex.Unlock()
}

func cause(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// until waits for an event that wanted accepts and returns all events up to it.
func (w *watcher) until(t *testing.T, description string, wanted func(event) bool) []event {
	t.Helper()
	deadline := newDeadline(func() {
		w.mutex.Lock()
		w.change.Broadcast()
		w.mutex.Unlock()
	})
	defer deadline.stop()
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for seen := 0; ; {
		for ; seen < len(w.events); seen++ {
			if wanted(w.events[seen]) {
				return w.events[: seen+1 : seen+1]
			}
		}
		if w.ended != nil {
			t.Fatalf("waiting for %s: %v; %d events before", description, w.ended, seen)
		}
		if deadline.over() {
			t.Fatalf("no %s within %v; %d events before", description, waitLimit, seen)
		}
		w.change.Wait()
	}
}

// checkOrder fails if events are not in the order of their revisions or one comes twice.
func checkOrder(t *testing.T, events []event) {
	t.Helper()
	last := int64(0)
	for number, one := range events {
		if one.Type == "ERROR" {
			t.Fatalf("event %d is an error: %+v", number, one.Object)
		}
		revision, err := strconv.ParseInt(one.Object.Metadata.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatalf("event %d of %q: %v", number, one.Object.Metadata.Name, err)
		}
		if one.Type == "BOOKMARK" {
			if revision < last {
				t.Errorf("bookmark %d says %d after an event at %d", number, revision, last)
			}
		} else if revision <= last {
			t.Errorf("event %d (%s %s) is at %d after %d", number, one.Type, one.Object.Metadata.Name, revision, last)
		}
		last = max(last, revision)
	}
}
