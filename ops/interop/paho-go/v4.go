// The link over paho.mqtt.golang, which speaks MQTT 3.1.1.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

type v4Link struct {
	client   mqtt.Client
	conn     net.Conn
	present  bool
	messages chan message
}

func dialV4(o options) (link, error) {
	l := &v4Link{messages: make(chan message, 16)}
	opts := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(o.id).SetProtocolVersion(4).
		SetCleanSession(!o.keepSession).SetAutoReconnect(false).SetConnectTimeout(wait)
	// Messages of a kept session come before any subscribe call, so all go through the default handler.
	opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		l.messages <- message{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()}
	})
	// The connection is kept at hand for breakOff.
	opts.SetCustomOpenConnectionFn(func(_ *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", address, wait)
		l.conn = conn
		return conn, err
	})
	if o.willTopic != "" {
		opts.SetWill(o.willTopic, o.willPayload, 1, false)
	}
	l.client = mqtt.NewClient(opts)
	token := l.client.Connect().(*mqtt.ConnectToken)
	if err := done(token); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l.present = token.SessionPresent()
	return l, nil
}

func done(token mqtt.Token) error {
	if !token.WaitTimeout(wait) {
		return errors.New("no answer from the broker")
	}
	return token.Error()
}

func (l *v4Link) sessionPresent() bool { return l.present }

func (l *v4Link) subscribe(topic string, qos byte) error {
	token := l.client.Subscribe(topic, qos, nil).(*mqtt.SubscribeToken)
	if err := done(token); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if granted := token.Result()[topic]; granted != qos {
		return fmt.Errorf("SUBACK %d, not %d", granted, qos)
	}
	return nil
}

func (l *v4Link) publish(topic, payload string, qos byte, retain bool) error {
	if err := done(l.client.Publish(topic, qos, retain, payload)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (l *v4Link) received() <-chan message { return l.messages }

func (l *v4Link) close() error {
	l.client.Disconnect(uint(time.Second.Milliseconds()))
	return nil
}

func (l *v4Link) breakOff() { _ = l.conn.Close() }
