//! A peer that is rust-libp2p and nothing else: TCP, Noise, Yamux, ping, identify, and streams of the same frames as ours, each
//! answered with an ack.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, identify, noise, ping, tcp, yamux};
use serde_json::json;
use storage::PeerKey;
use tokio::sync::{Semaphore, mpsc};

use super::{Load, Role, Sent, Target, WINDOW, say, say_sent, say_where, until_dismissed};
use crate::samples::Samples;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/frames/1.0.0");

/// Of a frame with its number, and of its ack: as ours.
const HEAD: usize = 5 + 9;

#[derive(NetworkBehaviour)]
struct Behaviour {
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    stream: libp2p_stream::Behaviour,
}

pub(super) async fn run(role: Role) {
    match role {
        // Whoever comes.
        Role::Serve(_) => serve().await,
        Role::Load(to, who, load) => {
            let sent = futures::future::join_all(who.iter().map(|_| send(&to, load))).await;
            say_sent(&sent);
        }
        Role::Crowd(..) => unreachable!("a crowd is ours"),
        Role::Idle(to, count) => {
            // One after the other: a node lets only so many shake hands at a time.
            for _ in 0..count {
                let (connected, mut is_connected) = mpsc::channel(1);
                let mut swarm = swarm();
                swarm.dial(to.address.clone()).expect("an address");
                tokio::spawn(drive(swarm, connected));
                is_connected.recv().await;
            }
            say(&json!({"connected": count}));
            until_dismissed().await;
        }
    }
}

fn swarm() -> Swarm<Behaviour> {
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|key| Behaviour {
            ping: ping::Behaviour::default(),
            identify: identify::Behaviour::new(identify::Config::new(
                "/bench/1.0.0".to_owned(),
                key.public(),
            )),
            stream: libp2p_stream::Behaviour::new(),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(86_400)))
        .build()
}

async fn drive(mut swarm: Swarm<Behaviour>, connected: mpsc::Sender<PeerId>) {
    loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            // Nobody waits any more for a second connection.
            let _ = connected.try_send(peer_id);
        }
    }
}

async fn serve() {
    let mut swarm = swarm();
    let key = PeerKey::from_peer_id(swarm.local_peer_id()).expect("an Ed25519 key");
    let mut streams = swarm.behaviour().stream.new_control().accept(PROTOCOL).expect("the first");
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("a port");
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let (connected, _nobody) = mpsc::channel(1);
    tokio::spawn(drive(swarm, connected));
    tokio::spawn(async move {
        while let Some((_, stream)) = streams.next().await {
            tokio::spawn(answer(stream));
        }
    });
    say_where(key, &address);
    until_dismissed().await;
}

/// Reads frames, and answers each, until the stream ends.
async fn answer(mut stream: Stream) -> Option<()> {
    let mut data = Vec::new();
    loop {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).await.ok()?;
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        data.resize(size, 0);
        stream.read_exact(&mut data).await.ok()?;
        stream.write_all(&head).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn head(size: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[1..5].copy_from_slice(&u32::try_from(size).expect("a small message").to_be_bytes());
    head
}

async fn send(to: &Target, load: Load) -> Sent {
    let mut swarm = swarm();
    let mut control = swarm.behaviour().stream.new_control();
    swarm.dial(to.address.clone()).expect("an address");
    let (connected, mut is_connected) = mpsc::channel(1);
    tokio::spawn(drive(swarm, connected));
    is_connected.recv().await.expect("it connects");
    let stream = loop {
        let mut stream = control.open_stream(to.peer(), PROTOCOL).await.expect("a stream");
        // libp2p-stream lets a stream go again that comes while another is taken over: the first that is answered is one.
        if exchange(&mut stream, &[]).await.is_ok() {
            break stream;
        }
    };
    match load {
        Load::Flood { size, lasting } => flood(stream, size, lasting).await,
        Load::PingPong { size, rounds } => ping_pong(stream, size, rounds).await,
    }
}

async fn flood(stream: Stream, size: usize, lasting: Duration) -> Sent {
    let (mut reader, mut writer) = stream.split();
    let room = Arc::new(Semaphore::new(WINDOW));
    let (data, began) = (vec![b'x'; size], Instant::now());
    let window = Arc::clone(&room);
    // In a task of its own, as a program would that wants both directions at once.
    let acks = tokio::spawn(async move {
        let mut ack = [0; HEAD];
        while reader.read_exact(&mut ack).await.is_ok() {
            window.add_permits(1);
        }
    });
    let mut bytes = 0;
    while began.elapsed() < lasting {
        if room.available_permits() == 0 {
            writer.flush().await.expect("the stream holds");
        }
        room.acquire().await.expect("never closed").forget();
        writer.write_all(&head(size)).await.expect("the stream holds");
        writer.write_all(&data).await.expect("the stream holds");
        bytes += size as u64;
    }
    writer.flush().await.expect("the stream holds");
    let _all = room.acquire_many(u32::try_from(WINDOW).unwrap_or(u32::MAX)).await.expect("never closed");
    acks.abort();
    Sent::since(began, bytes, Samples::default())
}

async fn ping_pong(mut stream: Stream, size: usize, rounds: usize) -> Sent {
    let data = vec![b'x'; size];
    let (began, mut round_trips) = (Instant::now(), Samples::default());
    for _ in 0..rounds {
        let sent = Instant::now();
        exchange(&mut stream, &data).await.expect("the stream holds");
        round_trips.add_us(sent.elapsed());
    }
    Sent::since(began, (size * rounds) as u64, round_trips)
}

/// One message, and its ack.
async fn exchange(stream: &mut Stream, data: &[u8]) -> std::io::Result<()> {
    stream.write_all(&head(data.len())).await?;
    stream.write_all(data).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; HEAD]).await
}
