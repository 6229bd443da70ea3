// interop C_PROGRAM PATTERN i|r COUNT: flynn/noise's side of what interop.c describes. Starts
// C_PROGRAM for the side named i (initiator) or r, and prints how many handshakes succeeded.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/flynn/noise"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)
var in io.Reader
var out io.Writer

func need(good bool, what string) {
	if !good {
		fmt.Println("interop.go:", what)
		os.Exit(1)
	}
}
func get() []byte {
	var size uint16
	need(binary.Read(in, binary.BigEndian, &size) == nil, "the C side has gone")
	message := make([]byte, size)
	_, err := io.ReadFull(in, message)
	need(err == nil, "the C side has gone")
	return message
}
func put(message []byte) {
	head := []byte{byte(len(message) >> 8), byte(len(message))}
	_, err := out.Write(append(head, message...))
	need(err == nil, "the C side does not listen")
}

func one(pattern string, initiator bool, damage int) {
	config := noise.Config{CipherSuite: suite, Random: rand.Reader, Initiator: initiator,
		Prologue: []byte("interop"), PresharedKey: make([]byte, 32)}
	_, err := rand.Read(config.PresharedKey)
	need(err == nil, "random numbers")
	psk := config.PresharedKey
	theirs, _ := suite.GenerateKeypair(rand.Reader)
	mine, _ := suite.GenerateKeypair(rand.Reader)
	switch pattern {
	case "KKpsk0":
		config.Pattern = noise.HandshakeKK
		config.PeerStatic = theirs.Public
		config.StaticKeypair = mine
	case "XXpsk3":
		config.Pattern = noise.HandshakeXX
		config.PresharedKeyPlacement = 3
		config.StaticKeypair = mine
	case "NNpsk0":
		config.Pattern = noise.HandshakeNN
	}
	put(append(append(append([]byte{}, psk...), theirs.Private...), mine.Public...))
	side, err := noise.NewHandshakeState(config)
	need(err == nil, "NewHandshakeState")

	var there, back *noise.CipherState // initiator to responder, and back
	turn := initiator
	for m := 0; there == nil; m++ {
		want := psk[:psk[m%32]%33]
		if turn {
			var message []byte
			message, there, back, err = side.WriteMessage(nil, want)
			need(err == nil, "WriteMessage")
			if damage%10 == 0 { // what is refused must do no harm
				bit := damage / 10 % (8 * len(message))
				message[bit/8] ^= 1 << (bit % 8)
				put(message)
				need(len(get()) == 1, "a damaged message was taken")
				message[bit/8] ^= 1 << (bit % 8)
			}
			put(message)
		} else {
			var payload []byte
			payload, there, back, err = side.ReadMessage(nil, get())
			need(err == nil && bytes.Equal(payload, want), "ReadMessage")
		}
		turn = !turn
	}
	need(bytes.Equal(get(), side.ChannelBinding()), "unlike hashes")
	need(pattern == "NNpsk0" || bytes.Equal(side.PeerStatic(), theirs.Public), "identity")

	send, recv := there, back
	if !initiator {
		send, recv = back, there
	}
	turn = initiator
	for m := 0; m < 140; m++ {
		want := psk[:psk[m%32]%33]
		state := recv
		if turn {
			state = send
		}
		if record := m / 2; record > 0 && record%64 == 0 {
			state.Rekey()
		}
		if turn {
			record, err := state.Encrypt(nil, nil, want)
			need(err == nil, "Encrypt")
			put(record)
		} else {
			text, err := state.Decrypt(nil, nil, get())
			need(err == nil && bytes.Equal(text, want), "Decrypt")
		}
		turn = !turn
	}
}

func main() {
	need(len(os.Args) == 5, "C_PROGRAM PATTERN i|r COUNT")
	count, _ := strconv.Atoi(os.Args[4])
	c := exec.Command(os.Args[1], os.Args[2:]...)
	c.Stderr = os.Stdout
	out, _ = c.StdinPipe()
	in, _ = c.StdoutPipe()
	need(c.Start() == nil, "starting the C side")
	for i := 0; i < count; i++ {
		one(os.Args[2], os.Args[3] == "r", i)
	}
	need(c.Wait() == nil, "the C side failed")
	fmt.Println(count, "handshakes with flynn/noise")
}
