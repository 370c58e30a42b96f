// Command paho-go runs the interop checks with Eclipse Paho's Go clients: paho-go HOST PORT 3.1.1|5.
// It prints `ok` or `FAIL` for each check.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"time"
)

const (
	wait  = 10 * time.Second // how long a message may take
	quiet = time.Second      // silence that counts as "nothing was sent"
)

type message struct {
	topic, payload string
	qos            byte
	retain         bool
}

// options says what a connection is opened with; an empty willTopic means no will.
type options struct {
	id                     string
	keepSession            bool
	willTopic, willPayload string
}

// link is one connection, the same for both protocol versions.
type link interface {
	sessionPresent() bool
	subscribe(topic string, qos byte) error
	publish(topic, payload string, qos byte, retain bool) error
	received() <-chan message
	close() error // with DISCONNECT
	breakOff()    // without DISCONNECT
}

var (
	address string
	dial    func(options) (link, error)
	run     = tag() // fresh topics and client ids, so that a broker with old state does no harm
)

func tag() string {
	bytes := make([]byte, 4)
	_, _ = rand.Read(bytes) // never fails
	return hex.EncodeToString(bytes)
}

func topicOf(check string) string { return "interop/" + run + "/" + check }

// must ends the check that runs; check recovers.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func open(o options) link {
	o.id = run + "-" + o.id
	opened, err := dial(o)
	must(err)
	return opened
}

func expect(l link, wanted message) {
	select {
	case got := <-l.received():
		if got != wanted {
			must(fmt.Errorf("received %+v, not %+v", got, wanted))
		}
	case <-time.After(wait):
		must(fmt.Errorf("not received: %+v", wanted))
	}
}

func expectNothing(l link) {
	select {
	case got := <-l.received():
		must(fmt.Errorf("received %+v, not nothing", got))
	case <-time.After(quiet):
	}
}

func expectSession(l link, present bool) {
	if l.sessionPresent() != present {
		must(fmt.Errorf("session present is %v, not %v", l.sessionPresent(), present))
	}
}

func roundTrip(qos byte) {
	topic := topicOf(fmt.Sprintf("qos%d", qos))
	subscriber, publisher := open(options{id: "sub"}), open(options{id: "pub"})
	must(subscriber.subscribe(topic, qos))
	for n := range 5 {
		must(publisher.publish(topic, fmt.Sprintf("\x00\xffround trip %d", n), qos, false))
	}
	for n := range 5 {
		expect(subscriber, message{topic, fmt.Sprintf("\x00\xffround trip %d", n), qos, false})
	}
	expectNothing(subscriber)
	must(subscriber.close())
	must(publisher.close())
}

func retained() {
	topic := topicOf("retained")
	publisher := open(options{id: "pub"})
	must(publisher.publish(topic, "kept", 1, true))
	later := open(options{id: "later"})
	must(later.subscribe(topic, 1))
	expect(later, message{topic, "kept", 1, true})
	must(later.close())
	must(publisher.publish(topic, "", 1, true))
	last := open(options{id: "last"})
	must(last.subscribe(topic, 1))
	expectNothing(last)
	must(last.close())
	must(publisher.close())
}

func will() {
	topic := topicOf("will")
	watcher := open(options{id: "watcher"})
	must(watcher.subscribe(topic, 1))
	must(open(options{id: "polite", willTopic: topic, willPayload: "not to be sent"}).close())
	expectNothing(watcher)
	open(options{id: "doomed", willTopic: topic, willPayload: "gone"}).breakOff()
	expect(watcher, message{topic, "gone", 1, false})
	must(watcher.close())
}

func session() {
	topic := topicOf("session")
	sleeper := open(options{id: "sleeper", keepSession: true})
	expectSession(sleeper, false)
	must(sleeper.subscribe(topic, 2))
	must(sleeper.close())
	publisher := open(options{id: "pub"})
	for _, qos := range []byte{1, 2} {
		must(publisher.publish(topic, "while away", qos, false))
	}
	sleeper = open(options{id: "sleeper", keepSession: true})
	expectSession(sleeper, true)
	for _, qos := range []byte{1, 2} {
		expect(sleeper, message{topic, "while away", qos, false})
	}
	must(publisher.publish(topic, "after return", 1, false)) // the subscription itself was kept, too
	expect(sleeper, message{topic, "after return", 1, false})
	must(sleeper.close())
	must(publisher.close())
	clean := open(options{id: "sleeper"})
	expectSession(clean, false)
	must(clean.close())
}

// check runs one check and reports it.
func check(version, name string, body func()) (passed bool) {
	defer func() {
		if why := recover(); why != nil {
			fmt.Printf("FAIL paho-go/%s %s: %v\n", version, name, why)
		}
	}()
	body()
	fmt.Printf("ok paho-go/%s %s\n", version, name)
	return true
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: paho-go HOST PORT 3.1.1|5")
		os.Exit(2)
	}
	address = net.JoinHostPort(os.Args[1], os.Args[2])
	version := os.Args[3]
	dial = dialV4
	if version == "5" {
		dial = dialV5
	}
	passed := true
	for qos := range byte(3) {
		passed = check(version, fmt.Sprintf("qos%d", qos), func() { roundTrip(qos) }) && passed
	}
	passed = check(version, "retained", retained) && passed
	passed = check(version, "will", will) && passed
	passed = check(version, "session", session) && passed
	if !passed {
		os.Exit(1)
	}
}
