// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

var hostileConns = flag.Int("hostile.connections", 2000, "how many connections TestHostileWebhookConnections opens in each of its parts")

// clientAddr is the address of a client without any permission: 127.0.0.2 and those that follow.
func clientAddr(i int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(i/250), byte(2+i%250))}
}

// attack opens connections to an address from several sources, some hundred a second, and does
// with each of them what f does. all is closed when all were opened, and stop closes them.
func attack(t *testing.T, addr string, n, sources int, f func(ctx context.Context, i int, conn net.Conn)) (all <-chan struct{}, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	limiter := rate.NewLimiter(500, 50)
	var wg sync.WaitGroup
	var opened atomic.Int32
	opening := make(chan struct{})
	wg.Go(func() {
		defer close(opening)
		for i := range n {
			if limiter.Wait(ctx) != nil {
				return
			}
			wg.Go(func() {
				conn, err := (&net.Dialer{LocalAddr: clientAddr(i % sources), Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
				if err != nil {
					return
				}
				opened.Add(1)
				defer conn.Close()
				go func() {
					<-ctx.Done()
					_ = conn.Close()
				}()
				f(ctx, i, conn)
			})
		}
	})
	return opening, func() {
		<-opening
		t.Logf("%d connections were opened, from %d addresses", opened.Load(), sources)
		cancel()
		wg.Wait()
	}
}

// hostile is what one connection does to the webhook under a path.
func hostile(ctx context.Context, i int, conn net.Conn, path string, body []byte) {
	if i%5 == 0 { // no handshake, or half of one
		_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1}[:i/5%7])
		<-ctx.Done()
		return
	}
	tc := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if tc.HandshakeContext(ctx) != nil {
		return
	}
	header := func(length int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, length)
	}
	slowly := func(data []byte) {
		for _, b := range data {
			if _, err := tc.Write([]byte{b}); err != nil {
				return
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
	switch i % 5 {
	case 1: // all of a body but its end
		_, _ = tc.Write(append([]byte(header(len(body)+64)), body...))
	case 2: // a body, byte by byte
		_, _ = tc.Write([]byte(header(len(body))))
		slowly(body[:50])
	case 3: // a header, byte by byte
		slowly([]byte(header(len(body)))[:50])
	case 4: // whole requests of much structure, one after the other
		text := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"BatchJob"},"operation":"CREATE","namespace":"default","object":{"spec":{"job":{"tasks":[` +
			strings.Repeat(`{},`, 48_000) + `{}]}}}}}`
		for range 3 {
			if _, err := tc.Write([]byte(header(len(text)) + text)); err != nil {
				return
			}
		}
	}
	_, _ = io.Copy(io.Discard, tc)
	<-ctx.Done()
}

// TestHostileWebhookConnections lets unauthenticated clients hold and send whatever they can, first without
// knowing anything, then with the token that was told to a tenant by mistake, and last a manager
// that has no token: its memory stays far below its limit, and jobs are created meanwhile.
func TestHostileWebhookConnections(t *testing.T) {
	c := startCluster(t)
	// The program takes what it may before it collects garbage, so this shows how little it needs;
	// config/manager gives it 460 MiB. The pages of the program itself come on top.
	t.Setenv("GOMEMLIMIT", "230MiB")
	body := bytes.Repeat([]byte(`{"a":"b"},`), 340<<10)
	part := func(name string, p *process, path string) {
		t.Run(name, func(t *testing.T) {
			n := *hostileConns
			all, stop := attack(t, p.webhook, n, 20, func(ctx context.Context, i int, conn net.Conn) { hostile(ctx, i, conn, path, body) })
			most, done := make(chan int), make(chan struct{})
			go func() {
				n := 0
				for {
					select {
					case <-done:
						most <- n
						return
					case <-time.After(50 * time.Millisecond):
						n = max(n, p.descriptors())
					}
				}
			}()
			c.createUntil(t, strings.ReplaceAll(name, " ", "-"), all)
			stop()
			close(done)
			open := <-most
			ended := make(chan struct{})
			close(ended)
			c.createUntil(t, strings.ReplaceAll(name, " ", "-")+"-after", ended)
			hwm := p.memory(t, "VmHWM:")
			t.Logf("%s: %d file descriptors and %d MiB resident at most", name, open, hwm/1024)
			if open > 1000+200+100+100 {
				t.Errorf("%d descriptors are open", open)
			}
			if hwm > 300*1024 && !raceDetector {
				t.Errorf("%d MiB were resident", hwm/1024)
			}
		})
	}
	p := c.startManager(t)
	_, v := c.configurations(t)
	u, err := url.Parse(*v.Webhooks[0].ClientConfig.URL)
	must(t, err)
	bare := u.Path[:strings.LastIndex(u.Path, "/")]
	if !strings.HasPrefix(bare, "/validate-") {
		t.Fatalf("path %q has no token", u.Path)
	}
	part("without the token", p, bare)
	part("with the token", p, u.Path)
	p.stop(t)

	cert, key, err := certutil.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, []string{serviceName + "." + defaultNamespace + ".svc"})
	must(t, err)
	dir := t.TempDir()
	must(t, errors.Join(os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600), os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600)))
	addr := freeAddr(t)
	p = c.launch(t, "--webhook-bind-address", addr, "--webhook-cert-dir", dir)
	p.webhook = addr
	c.pointWebhooks(t, "https://"+addr, cert)
	eventually(t, p.ready)
	part("no token", p, bare)
}

// pointWebhooks makes the API server call the webhooks at a URL, without a token.
func (c *cluster) pointWebhooks(t *testing.T, to string, bundle []byte) {
	t.Helper()
	m, v := c.configurations(t)
	for i := range m.Webhooks {
		old, err := url.Parse(*m.Webhooks[i].ClientConfig.URL)
		must(t, err)
		u := to + "/" + strings.Split(old.Path, "/")[1]
		m.Webhooks[i].ClientConfig.URL, m.Webhooks[i].ClientConfig.CABundle = &u, bundle
	}
	for i := range v.Webhooks {
		old, err := url.Parse(*v.Webhooks[i].ClientConfig.URL)
		must(t, err)
		u := to + "/" + strings.Split(old.Path, "/")[1]
		v.Webhooks[i].ClientConfig.URL, v.Webhooks[i].ClientConfig.CABundle = &u, bundle
	}
	must(t, errors.Join(c.Update(t.Context(), m), c.Update(t.Context(), v)))
}

// createUntil creates jobs, one at least, until something has ended. The API server gives the
// webhook five seconds; on a machine that has no time at all a second try may have to do.
func (c *cluster) createUntil(t *testing.T, prefix string, end <-chan struct{}) {
	t.Helper()
	n, atFirst := 0, 0
	slowest := time.Duration(0)
	for ended := false; !ended; n++ {
		i := n
		job := parse(t, good)
		job.Name = fmt.Sprintf("%s-%d", prefix, i)
		job.Spec.Suspend = true
		var err error
		for try := range 3 {
			begin := time.Now()
			err = c.Create(t.Context(), job.DeepCopy())
			slowest = max(slowest, time.Since(begin))
			if err == nil && try == 0 {
				atFirst++
			}
			if err == nil || apierrors.IsAlreadyExists(err) {
				err = nil
				break
			}
			t.Logf("try %d of job %d: %v", try, i, err)
		}
		if err != nil {
			t.Errorf("job %d was not created: %v", i, err)
		}
		select {
		case <-end:
			ended = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Logf("%d of %d jobs were created at the first try, the slowest in %s", atFirst, n, slowest.Round(time.Millisecond))
}

// memory is a figure of the process in KiB, such as VmRSS: or VmHWM:.
func (p *process) memory(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	_, rest, _ := strings.Cut(string(data), name)
	var kib int
	_, err = fmt.Sscan(rest, &kib)
	must(t, err)
	return kib
}

// descriptors are how many files and connections the process has open, 0 where there is no /proc.
func (p *process) descriptors() int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(list)
}

// TestHostileMetricsTokens lets unauthenticated clients try tokens: the scraper is served all the time, the API
// server is asked a few times a second, and the reconciler, whose own limit is low here, continues.
func TestHostileMetricsTokens(t *testing.T) {
	c := startCluster(t)
	p := c.startManager(t, "--kube-api-qps=20", "--kube-api-burst=40")
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prometheus"}}
	must(t, c.Create(t.Context(), sa))
	tr := &authnv1.TokenRequest{}
	must(t, c.SubResource("token").Create(t.Context(), sa, tr))
	must(t, c.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "batchcompute-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "prometheus"}},
	}))
	scraper := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 10 * time.Second}
	scrape := func(hc *http.Client, token string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.metrics+"/metrics", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := hc.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	eventually(t, func() error {
		if status, err := scrape(scraper, tr.Status.Token); err != nil || status != http.StatusOK {
			return fmt.Errorf("status %d, %w", status, err)
		}
		return nil
	})
	before, begin := c.tokenReviews(t), time.Now()
	var mu sync.Mutex
	answers := map[int]int{}
	_, stop := attack(t, p.metrics, 1500, 50, func(ctx context.Context, _ int, conn net.Conn) {
		tc := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		hc := &http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return tc, nil }, MaxIdleConns: 1}}
		for range 3 {
			b := make([]byte, 20)
			_, _ = rand.Read(b)
			status, err := scrape(hc, hex.EncodeToString(b))
			if err != nil {
				return
			}
			mu.Lock()
			answers[status]++
			mu.Unlock()
		}
	})
	must(t, c.Create(t.Context(), parse(t, strings.Replace(good, "name: good", "name: meanwhile", 1))))
	for range 30 {
		if status, err := scrape(scraper, tr.Status.Token); err != nil || status != http.StatusOK {
			t.Errorf("the scraper got status %d, %v", status, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, func() error {
		var pods corev1.PodList
		must(t, c.List(t.Context(), &pods, client.InNamespace("default")))
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d Pods", len(pods.Items))
		}
		return nil
	})
	stop()
	reviews, took := c.tokenReviews(t)-before, time.Since(begin)
	t.Logf("%d token reviews in %s; unauthenticated clients got %v", reviews, took.Round(time.Millisecond), answers)
	if most := 30 + 10*(took.Seconds()+1); float64(reviews) > most {
		t.Errorf("%d reviews, want at most %.0f", reviews, most)
	}
	if answers[http.StatusOK] > 0 || answers[http.StatusUnauthorized] == 0 {
		t.Errorf("unauthenticated clients got %v", answers)
	}
}

// tokenReviews is how many token reviews the API server was asked for.
func (c *cluster) tokenReviews(t *testing.T) int {
	t.Helper()
	out, err := c.run(t, "", "get", "--raw", "/metrics")
	must(t, err)
	sum := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `resource="tokenreviews"`) {
			var n float64
			_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n)
			must(t, err)
			sum += int(n)
		}
	}
	return sum
}

// switchable forwards connections to an API server, or not.
type switchable struct {
	addr, to string
	listener net.Listener
}

// open makes the address lead to the API server; with hang nobody answers there.
func (s *switchable) open(t *testing.T, hang bool) {
	t.Helper()
	var err error
	s.listener, err = net.Listen("tcp", s.addr)
	must(t, err)
	l := s.listener
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			if hang {
				continue
			}
			go func() {
				defer conn.Close()
				up, err := net.Dial("tcp", s.to)
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, conn) }()
				_, _ = io.Copy(conn, up)
			}()
		}
	}()
}

// TestManagerWaitsForAPIServer starts a manager whose API server is not there, then does not
// answer, then is there: it lives, says what it waits for, and continues by itself.
func TestManagerWaitsForAPIServer(t *testing.T) {
	c := startCluster(t)
	server, err := url.Parse(c.env.Config.Host)
	must(t, err)
	if server.Host == "" {
		server.Host = c.env.Config.Host
	}
	front := &switchable{addr: freeAddr(t), to: server.Host}
	data, err := os.ReadFile(c.operator)
	must(t, err)
	moved := bytes.ReplaceAll(data, []byte(server.Host), []byte(front.addr))
	if bytes.Equal(moved, data) {
		t.Fatalf("the kubeconfig does not name %s", server.Host)
	}
	c.operator = filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(c.operator, moved, 0o600))

	addr := freeAddr(t)
	p := c.launch(t, "--webhook-bind-address", addr, "--webhook-url", "https://"+addr)
	healthy := func() error {
		resp, err := http.Get("http://" + p.probe + "/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
	eventually(t, healthy)
	waits := func(reason string) {
		t.Helper()
		eventually(t, func() error {
			must(t, healthy())
			err := p.ready()
			if err == nil || !strings.Contains(err.Error(), "waiting for the API server at https://"+front.addr) || !strings.Contains(err.Error(), reason) {
				return fmt.Errorf("not the reason: %w", err)
			}
			t.Log(strings.TrimSpace(err.Error()))
			return nil
		})
	}
	waits("connection refused")
	front.open(t, true)
	waits("exceeded")
	_ = front.listener.Close()
	front.open(t, false)
	eventually(t, p.ready)
	must(t, c.Create(t.Context(), parse(t, good)))
	eventually(t, func() error { // it leads
		if job := c.get(t, "good"); job.Status.JobID == "" {
			return errors.New("the job has no status")
		}
		return nil
	})
	if got := strings.Count(p.log.String(), "Started the manager"); got != 1 {
		t.Errorf("it was started %d times", got)
	}
}

// TestManagerWaitsForCRDs starts a manager before anything was installed.
func TestManagerWaitsForCRDs(t *testing.T) {
	c := startCluster(t)
	if out, err := c.run(t, "", "delete", "crd", "computeenvs.batchcompute.dev"); err != nil {
		t.Fatal(out)
	}
	addr := freeAddr(t)
	p := c.launch(t, "--webhook-bind-address", addr, "--webhook-url", "https://"+addr)
	eventually(t, func() error {
		if err := p.ready(); err == nil || !strings.Contains(err.Error(), "looking for ComputeEnv") {
			return fmt.Errorf("not the reason: %w", err)
		}
		return nil
	})
	c.apply(t, "../../config/host")
	eventually(t, p.ready)
}

// TestWebhookPath applies config/default around a manager: the paths get tokens, and applying it
// again is no change and no conflict.
func TestWebhookPath(t *testing.T) {
	c := startCluster(t)
	for _, kind := range []string{"mutatingwebhookconfiguration/" + mutatingName, "validatingwebhookconfiguration/" + validatingName} {
		if out, err := c.run(t, "", "delete", kind); err != nil {
			t.Fatal(out)
		}
	}
	manifests, err := c.run(t, "", "kustomize", "../../config/default")
	must(t, err)
	var hooks []string
	for doc := range strings.SplitSeq(manifests, "\n---\n") {
		if strings.Contains(doc, "\nkind: MutatingWebhookConfiguration\n") || strings.Contains(doc, "\nkind: ValidatingWebhookConfiguration\n") {
			hooks = append(hooks, doc)
		}
	}
	apply := func() string {
		t.Helper()
		out, err := c.run(t, strings.Join(hooks, "\n---\n"), "apply", "--server-side", "-f", "-")
		if err != nil {
			t.Fatalf("applying the webhook configurations: %v\n%s", err, out)
		}
		m, v := c.configurations(t)
		return m.ResourceVersion + " " + v.ResourceVersion
	}
	apply()
	p := c.launch(t, "--webhook-bind-address", freeAddr(t))
	eventually(t, p.ready)
	m, v := c.configurations(t)
	var paths []string
	for i := range m.Webhooks {
		paths = append(paths, *m.Webhooks[i].ClientConfig.Service.Path)
	}
	for i := range v.Webhooks {
		paths = append(paths, *v.Webhooks[i].ClientConfig.Service.Path)
	}
	_, token, _ := strings.Cut(paths[0][1:], "/")
	env := "/validate-batchcompute-dev-v1alpha1-computeenv/" + token
	want := []string{
		"/mutate-batchcompute-dev-v1alpha1-batchjob/" + token, "/mutate-batchcompute-dev-v1alpha1-batchjob-tasktemplate/" + token,
		"/validate-batchcompute-dev-v1alpha1-batchjob/" + token, env, env, env, "/validate-batchcompute-dev-v1alpha1-tasktemplate/" + token,
	}
	if len(token) != 40 || !slices.Equal(paths, want) {
		t.Errorf("paths %q", paths)
	}
	if got, want := apply(), m.ResourceVersion+" "+v.ResourceVersion; got != want {
		t.Errorf("applying again changed something: versions %s, want %s", got, want)
	}
	if strings.Contains(p.log.String(), token) {
		t.Error("the log tells the token")
	}
	// Whoever takes the path out does not keep the API server from the manager.
	v.Webhooks[0].ClientConfig.Service.Path = nil
	must(t, c.Update(t.Context(), v))
	eventually(t, func() error {
		_, v := c.configurations(t)
		if got := v.Webhooks[0].ClientConfig.Service.Path; got == nil || *got != want[2] {
			return errors.New("the path was not put back")
		}
		return p.ready()
	})
}

// TestWebhookClientCA gives the API server a client certificate as docs/security.md says: it gets
// through, and nobody else does.
func TestWebhookClientCA(t *testing.T) {
	dir := t.TempDir()
	caKey, err := keyutil.MakeEllipticPrivateKeyPEM()
	must(t, err)
	signer, err := keyutil.ParsePrivateKeyPEM(caKey)
	must(t, err)
	ca, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: "api-servers"}, signer.(cryptoSigner))
	must(t, err)
	cert, key := clientCert(t, ca, signer.(cryptoSigner))
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	caPEM, err := certutil.EncodeCertificates(ca)
	must(t, err)
	caFile := write("ca.crt", string(caPEM))
	kubeconfig := write("webhook-kubeconfig", fmt.Sprintf("apiVersion: v1\nkind: Config\nusers:\n- name: '*'\n  user:\n    client-certificate: %s\n    client-key: %s\n",
		write("client.crt", string(cert)), write("client.key", string(key))))
	plugin := func(name, kind string) string {
		return fmt.Sprintf("- name: %s\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    kind: WebhookAdmissionConfiguration\n    kubeConfigFile: %s\n", name, kind)
	}
	config := write("admission.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"+
		plugin("ValidatingAdmissionWebhook", kubeconfig)+plugin("MutatingAdmissionWebhook", kubeconfig))
	c := startCluster(t, func(env *envtest.Environment) {
		env.ControlPlane.GetAPIServer().Configure().Set("admission-control-config-file", config)
	})
	p := c.startManager(t, "--webhook-client-ca-file", caFile)
	eventually(t, func() error { return client.IgnoreAlreadyExists(c.Create(t.Context(), parse(t, good))) })
	if err := c.Create(t.Context(), parse(t, bad)); !apierrors.IsInvalid(err) {
		t.Errorf("a bad job: %v", err)
	}
	_, v := c.configurations(t)
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := hc.Post(*v.Webhooks[0].ClientConfig.URL, "application/json", strings.NewReader("{}"))
	if err == nil {
		resp.Body.Close()
		t.Errorf("a client without a certificate got %s", resp.Status)
	}
	other, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: "api-servers"}, signer.(cryptoSigner))
	must(t, err)
	hc.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{other.Raw}, PrivateKey: signer}}
	if resp, err := hc.Post(*v.Webhooks[0].ClientConfig.URL, "application/json", strings.NewReader("{}")); err == nil {
		resp.Body.Close()
		t.Errorf("a client with a certificate for another purpose got %s", resp.Status)
	}
	must(t, p.ready())
}
