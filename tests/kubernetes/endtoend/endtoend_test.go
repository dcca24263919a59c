// Package endtoend is the main job of a store under Kubernetes: a real kube-apiserver keeps its state in it, kubectl
// works on that, and nothing that was acknowledged is ever lost.
//
// Each test runs over mTLS and over a unix socket. Run it with scripts/kubernetes-test, which sets:
//   - ENDTOEND_STORE, ENDTOEND_APISERVER, ENDTOEND_KUBECTL: the programs. The store understands etcd's flags, so a real
//     etcd can stand in its place; it passes.
//
// The steps of one control plane share it, because its start is the costly part; each has a namespace of its own and
// says what it needs of those before it.
package endtoend

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/tests/kubernetes/harness"
)

const (
	// Anything that happens by itself happens within this, on a loaded machine too.
	waitLimit = 90 * time.Second
	// Short lives, so that expiry and compaction are seen within a test. The apiserver shares one lease among
	// objects for 5 % of this.
	eventTTL           = 12 * time.Second
	compactionInterval = 8 * time.Second
	pageSize           = 10
	objectCount        = 35
	// A list of pages that takes longer than history is kept begins again so often.
	restartsMax = 2
)

func TestMTLS(t *testing.T) { controlPlane(t, harness.MTLS) }
func TestUnix(t *testing.T) { controlPlane(t, harness.Unix) }

func controlPlane(t *testing.T, transport harness.Transport) {
	plane := start(t, transport)
	expiry := createEvent(t, plane)
	token := firstPageLongAgo(t, plane)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *harness.ControlPlane)
	}{
		{"ListInPages", listInPages},
		{"WatchPatchDelete", watchPatchDelete},
		{"ConflictingUpdate", conflictingUpdate},
		{"EventExpires", expiry},
		{"OldTokenIsGone", token},
		{"ApiserverRestarts", apiserverRestarts},
		{"StoreIsKilled", storeIsKilled},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, plane) }) {
			t.FailNow()
		}
	}
}

func start(t *testing.T, transport harness.Transport) *harness.ControlPlane {
	t.Helper()
	program := func(variable string) string {
		path := os.Getenv(variable)
		if path == "" {
			t.Fatalf("%s is not set; run scripts/kubernetes-test", variable)
		}
		return path
	}
	// Not t.TempDir: its path has the test's name and would be too long for a socket.
	directory, err := os.MkdirTemp("", "holdfast-")
	if err != nil {
		t.Fatal(err)
	}
	plane, err := harness.New(harness.Options{
		Directory: directory,
		Store:     program("ENDTOEND_STORE"),
		Apiserver: program("ENDTOEND_APISERVER"),
		Kubectl:   program("ENDTOEND_KUBECTL"),
		Transport: transport,
		ApiserverFlags: []string{
			"--event-ttl=" + eventTTL.String(),
			"--etcd-compaction-interval=" + compactionInterval.String(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, log := range []string{"store.log", "apiserver.log"} {
				showTail(t, filepath.Join(directory, log))
			}
		}
		_ = os.RemoveAll(directory)
	})
	if err := plane.Start(); err != nil {
		t.Fatal(err)
	}
	return plane
}

// listInPages reads a collection page by page while it changes: all pages show the moment of the first.
func listInPages(t *testing.T, plane *harness.ControlPlane) {
	space, names := "", []string(nil)
	for attempt := 0; ; attempt++ {
		space = fmt.Sprintf("pages-%d", attempt)
		namespace(t, plane, space)
		names = createConfigMaps(t, plane, space, objectCount)
		if allPages(t, plane, space, names) {
			break
		}
		// A machine that stands still for longer than history is kept.
		if attempt == restartsMax {
			t.Fatalf("history was gone before the last page, %d times", attempt+1)
		}
		t.Logf("history was gone before the last page: once more from the first")
	}

	// And as kubectl does it, at the present.
	output := kubectl(t, plane, "", "--namespace="+space, "get", "configmaps", "--chunk-size=7", "--output=name")
	now := append(append([]string{}, names[:len(names)-1]...), "zz-later")
	for number, line := range strings.Fields(output) {
		if number >= len(now) || line != "configmap/"+now[number] {
			t.Fatalf("kubectl lists %s; wanted %v", output, now)
		}
	}
}

// allPages compares all pages of space with names and changes it after the first; false when history ended meanwhile.
func allPages(t *testing.T, plane *harness.ControlPlane, space string, names []string) bool {
	t.Helper()
	begun := time.Now()
	listed, revision, path := []string{}, "", collection(space, "limit", fmt.Sprint(pageSize))
	for pages := 0; ; pages++ {
		page, status := get(t, plane, path)
		// The apiserver compacts to where it was an interval ago: sooner, nothing of this is gone.
		if status == 410 && time.Since(begun) > compactionInterval {
			return false
		}
		if status != 200 {
			t.Fatalf("page %d: %d %s", pages, status, page.Message)
		}
		if revision == "" {
			revision = page.Metadata.ResourceVersion
		}
		if page.Metadata.ResourceVersion != revision {
			t.Errorf("page %d is at %s, the first at %s", pages, page.Metadata.ResourceVersion, revision)
		}
		for _, item := range page.Items {
			listed = append(listed, item.Metadata.Name)
		}
		if page.Metadata.Continue == "" {
			break
		}
		if want := int64(len(names) - len(listed)); page.Metadata.Remaining == nil || *page.Metadata.Remaining != want {
			t.Errorf("page %d says %v remain, not %d", pages, page.Metadata.Remaining, want)
		}
		// What is deleted and created meanwhile belongs to a later moment.
		if pages == 0 {
			kubectl(t, plane, "", "--namespace="+space, "delete", "configmap", names[len(names)-1], "--wait=false")
			kubectl(t, plane, "", "--namespace="+space, "create", "configmap", "zz-later")
		}
		path = collection(space, "limit", fmt.Sprint(pageSize), "continue", page.Metadata.Continue)
	}
	if strings.Join(listed, " ") != strings.Join(names, " ") {
		t.Errorf("listed %v\nwanted %v", listed, names)
	}
	return true
}

// watchPatchDelete follows one object's life, with kubectl's watch and with the API's.
func watchPatchDelete(t *testing.T, plane *harness.ControlPlane) {
	namespace(t, plane, "life")
	kubectl(t, plane, "", "--namespace=life", "create", "configmap", "marker", "--from-literal=text=marker")
	list, _ := get(t, plane, collection("life"))
	events := watch(t, plane, collection("life", "watch", "1", "resourceVersion", list.Metadata.ResourceVersion))
	follow := startKubectl(t, plane, "--namespace=life", "get", "configmaps", "--watch", "--output-watch-events",
		"--output=custom-columns=TYPE:.type,TEXT:.object.data.text")

	follow.expect(t, "ADDED marker") // it watches now

	kubectl(t, plane, "", "--namespace=life", "create", "configmap", "one", "--from-literal=text=first")
	kubectl(t, plane, "", "--namespace=life", "patch", "configmap", "one", "--patch", `{"data":{"text":"second"}}`)
	kubectl(t, plane, "", "--namespace=life", "delete", "configmap", "one")

	follow.expect(t, "ADDED first", "MODIFIED second", "DELETED second")
	seen := []string{}
	all := events.until(t, "deletion of life/one", func(one event) bool {
		if one.Object.Metadata.Name == "one" {
			seen = append(seen, one.Type+" "+one.Object.Data["text"])
		}
		return one.Type == "DELETED" && one.Object.Metadata.Name == "one"
	})
	checkOrder(t, all)
	if got := strings.Join(seen, ", "); got != "ADDED first, MODIFIED second, DELETED second" {
		t.Errorf("the watch saw: %s", got)
	}
	// The same history again, from where it began.
	again := watch(t, plane, collection("life", "watch", "1", "resourceVersion", list.Metadata.ResourceVersion))
	repeated := again.until(t, "the deletion again", func(one event) bool {
		return one.Type == "DELETED" && one.Object.Metadata.Name == "one"
	})
	if len(repeated) != len(all) {
		t.Errorf("a second watch from %s saw %d events, the first %d", list.Metadata.ResourceVersion, len(repeated), len(all))
	}
}

// conflictingUpdate writes with an old resource version: the store's compare has to refuse it.
func conflictingUpdate(t *testing.T, plane *harness.ControlPlane) {
	namespace(t, plane, "conflict")
	kubectl(t, plane, "", "--namespace=conflict", "create", "configmap", "one", "--from-literal=text=first")
	old := kubectl(t, plane, "", "--namespace=conflict", "get", "configmap", "one", "--output=json")
	kubectl(t, plane, "", "--namespace=conflict", "patch", "configmap", "one", "--patch", `{"data":{"text":"second"}}`)
	if _, err := plane.Kubectl(old, "--namespace=conflict", "replace", "--filename=-"); err == nil {
		t.Error("an update with an old resourceVersion was accepted")
	} else if !strings.Contains(err.Error(), "the object has been modified") {
		t.Errorf("an update with an old resourceVersion failed with: %v", err)
	}
	text := kubectl(t, plane, "", "--namespace=conflict", "get", "configmap", "one", "--output=jsonpath={.data.text}")
	if text != "second" {
		t.Errorf("the object says %q", text)
	}
}

// createEvent writes an Event, which lives as long as its lease, and returns the step that sees it go.
func createEvent(t *testing.T, plane *harness.ControlPlane) func(*testing.T, *harness.ControlPlane) {
	t.Helper()
	namespace(t, plane, "expiry")
	path := "/api/v1/namespaces/expiry/events"
	list, _ := get(t, plane, path)
	events := watch(t, plane, path+"?watch=1&resourceVersion="+list.Metadata.ResourceVersion)
	begun := time.Now()
	kubectl(t, plane, `{"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "expiry", "name": "short-lived"},
		"involvedObject": {"namespace": "expiry", "kind": "ConfigMap", "name": "none"}, "reason": "Tested", "type": "Normal"}`,
		"create", "--filename=-")
	return func(t *testing.T, plane *harness.ControlPlane) {
		// An apiserver that is asked to stop waits a minute for watches that are open.
		defer events.body.Close()
		all := events.until(t, "expiry of the event", func(one event) bool { return one.Type == "DELETED" })
		checkOrder(t, all)
		if len(all) != 2 || all[0].Type != "ADDED" {
			t.Errorf("the watch saw %+v", all)
		}
		// Everything that the deletion's watchers need was in the deletion.
		if name := all[len(all)-1].Object.Metadata.Name; name != "short-lived" {
			t.Errorf("the deleted object is called %q", name)
		}
		// This step may come after the expiry; that it did not come early is what can be said.
		if age := time.Since(begun); age < eventTTL {
			t.Errorf("the event was gone after %v, before its %v", age, eventTTL)
		}
		if _, status := get(t, plane, path+"/short-lived"); status != 404 {
			t.Errorf("the expired event answers %d", status)
		}
	}
}

// firstPageLongAgo begins a list and returns the step that continues it after a compaction.
func firstPageLongAgo(t *testing.T, plane *harness.ControlPlane) func(*testing.T, *harness.ControlPlane) {
	t.Helper()
	namespace(t, plane, "old")
	createConfigMaps(t, plane, "old", 2*pageSize)
	first, status := get(t, plane, collection("old", "limit", fmt.Sprint(pageSize)))
	if status != 200 || first.Metadata.Continue == "" {
		t.Fatalf("the first page: %d, continue %q", status, first.Metadata.Continue)
	}
	return func(t *testing.T, plane *harness.ControlPlane) {
		next := collection("old", "limit", fmt.Sprint(pageSize), "continue", first.Metadata.Continue)
		var answer object
		eventually(t, "the compaction", func() error {
			// The apiserver compacts to where it was an interval ago: writing goes on.
			kubectl(t, plane, "", "--namespace=old", "annotate", "configmap", "object-000", "--overwrite",
				fmt.Sprintf("at=%d", time.Now().UnixNano()))
			var status int
			if answer, status = get(t, plane, next); status == 200 {
				return fmt.Errorf("the old token still works")
			} else if status != 410 {
				t.Fatalf("an old token answers %d: %+v", status, answer)
			}
			return nil
		})
		if answer.Reason != "Expired" {
			t.Errorf("the reason is %q: %s", answer.Reason, answer.Message)
		}
		// The answer carries a token to go on with, at the present.
		rest, status := get(t, plane, collection("old", "limit", "100", "continue", answer.Metadata.Continue))
		if status != 200 || len(rest.Items) != pageSize {
			t.Errorf("going on with the answer's token: %d, %d items", status, len(rest.Items))
		}
	}
}

// apiserverRestarts stops the apiserver and starts it again: its state is the store's.
func apiserverRestarts(t *testing.T, plane *harness.ControlPlane) {
	namespace(t, plane, "restart")
	names := createConfigMaps(t, plane, "restart", objectCount)
	if err := plane.Apiserver.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := plane.StartApiserver(); err != nil {
		t.Fatal(err)
	}
	list, status := get(t, plane, collection("restart"))
	if status != 200 || len(list.Items) != len(names) {
		t.Fatalf("after the restart: %d, %d of %d objects", status, len(list.Items), len(names))
	}
	for _, item := range list.Items {
		if item.Data["name"] != item.Metadata.Name {
			t.Errorf("%s holds %v", item.Metadata.Name, item.Data)
		}
	}
}

// storeIsKilled kills the node in the middle of writes, three times: what was acknowledged stays, and a watch that was
// open all the time sees each object once, in order.
func storeIsKilled(t *testing.T, plane *harness.ControlPlane) {
	const kills, writers = 3, 4
	namespace(t, plane, "kill")
	list, _ := get(t, plane, collection("kill"))
	events := watch(t, plane, collection("kill", "watch", "1", "resourceVersion", list.Metadata.ResourceVersion))

	var stop atomic.Bool
	results := make(chan []string, writers)
	for writer := range writers {
		go func() { results <- writeUntil(plane, fmt.Sprintf("writer-%d", writer), &stop) }()
	}
	for range kills {
		time.Sleep(2 * time.Second)
		plane.Store.Kill()
		if err := plane.Store.Start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	stop.Store(true)
	acknowledged := []string{}
	for range writers {
		acknowledged = append(acknowledged, <-results...)
	}
	if len(acknowledged) < kills*writers {
		t.Fatalf("only %d writes were acknowledged", len(acknowledged))
	}
	t.Logf("%d acknowledged writes across %d kills", len(acknowledged), kills)

	// A last write, when all is well again, ends the watch.
	eventually(t, "a write after the last kill", func() error {
		_, err := plane.Kubectl("", "--namespace=kill", "create", "configmap", "zz-last")
		return err
	})
	all := events.until(t, "the last write", func(one event) bool { return one.Object.Metadata.Name == "zz-last" })
	checkOrder(t, all)
	added := map[string]int{}
	for _, one := range all {
		if one.Type == "ADDED" {
			added[one.Object.Metadata.Name]++
		}
	}
	present := map[string]bool{}
	var after object
	eventually(t, "a list after the kills", func() error {
		var status int
		if after, status = get(t, plane, collection("kill")); status != 200 {
			return fmt.Errorf("%d %s", status, after.Message)
		}
		return nil
	})
	for _, item := range after.Items {
		present[item.Metadata.Name] = true
	}
	for _, name := range acknowledged {
		if !present[name] {
			t.Errorf("%s was acknowledged and is gone", name)
		}
		if added[name] != 1 {
			t.Errorf("the watch saw %s %d times", name, added[name])
		}
	}
	for name := range added {
		if !present[name] {
			t.Errorf("the watch saw %s, which is not there", name)
		}
	}
}

// writeUntil creates objects one after the other and returns the names of those that were acknowledged.
func writeUntil(plane *harness.ControlPlane, prefix string, stop *atomic.Bool) []string {
	acknowledged := []string{}
	for number := 0; !stop.Load(); number++ {
		name := fmt.Sprintf("%s-%05d", prefix, number)
		response, err := plane.Request("POST", collection("kill"), "application/json", strings.NewReader(configMap(name)))
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode == 201 {
			acknowledged = append(acknowledged, name)
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	return acknowledged
}

// createConfigMaps creates count objects with one kubectl and returns their names, sorted.
func createConfigMaps(t *testing.T, plane *harness.ControlPlane, space string, count int) []string {
	t.Helper()
	names, items := []string{}, []string{}
	for number := range count {
		names = append(names, fmt.Sprintf("object-%03d", number))
		items = append(items, configMap(names[number]))
	}
	sort.Strings(names)
	kubectl(t, plane, `{"apiVersion": "v1", "kind": "List", "items": [`+strings.Join(items, ",")+`]}`,
		"--namespace="+space, "create", "--filename=-")
	return names
}

func configMap(name string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": %q}, "data": {"name": %q}}`, name, name)
}

// namespace creates a namespace. Nothing fills it in: there is no controller.
func namespace(t *testing.T, plane *harness.ControlPlane, name string) {
	t.Helper()
	kubectl(t, plane, "", "create", "namespace", name)
}

// collection is the path of a namespace's config maps with the given query, as names and values.
func collection(space string, query ...string) string {
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return "/api/v1/namespaces/" + space + "/configmaps?" + values.Encode()
}

func get(t *testing.T, plane *harness.ControlPlane, path string) (object, int) {
	t.Helper()
	response, err := plane.Request("GET", path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var result object
	if err := json.NewDecoder(response.Body).Decode(&result); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return result, response.StatusCode
}

func kubectl(t *testing.T, plane *harness.ControlPlane, input string, arguments ...string) string {
	t.Helper()
	output, err := plane.Kubectl(input, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}
