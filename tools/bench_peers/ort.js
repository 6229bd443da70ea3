// usage: node ort.js DIR NET THREADS SECONDS: "median p10 p90 rate" of one sample through DIR/NET.onnx
//        node ort.js DIR NET check:           writes DIR/NET.ort, the output for the first sample
const fs = require('fs');
const ort = require('onnxruntime-node');
const [, , dir, net, threads, seconds] = process.argv;

const shapes = {mlp: [28, 28, 1], lenet: [28, 28, 1], mobilenetv2: [224, 224, 3], resnet18: [224, 224, 3]};

// The first sample of DIR/NET.input, rows x columns x channels there, channels first here.
function input() {
  const bytes = fs.readFileSync(`${dir}/${net}.input`);
  if (net === 'gpt') {
    const ids = new Int32Array(bytes.buffer, bytes.byteOffset, 128);
    return new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, 128]);
  }
  const [h, w, c] = shapes[net] || [32, 32, 3];
  const from = new Float32Array(bytes.buffer, bytes.byteOffset, h * w * c);
  const to = new Float32Array(h * w * c);
  for (let i = 0; i < h * w; i++)
    for (let k = 0; k < c; k++) to[k * h * w + i] = from[i * c + k];
  return new ort.Tensor('float32', to, [1, c, h, w]);
}

async function main() {
  const session = await ort.InferenceSession.create(`${dir}/${net}.onnx`, {
    intraOpNumThreads: threads === 'check' ? 1 : +threads, interOpNumThreads: 1,
    executionMode: 'sequential', graphOptimizationLevel: 'all', logSeverityLevel: 3});
  const x = input();
  if (threads === 'check') {
    const y = (await session.run({x})).y.data;
    fs.writeFileSync(`${dir}/${net}.ort`, Buffer.from(y.buffer, y.byteOffset, y.byteLength));
    return;
  }
  const warm = performance.now() + 200; // the script compiler too
  for (let i = 0; i < 5 || performance.now() < warm; i++) await session.run({x});
  const t = [], end = performance.now() + 1e3 * seconds;
  while (performance.now() < end || t.length < 10) {
    const start = performance.now();
    await session.run({x});
    t.push(performance.now() - start);
  }
  t.sort((a, b) => a - b);
  const ms = [0.5, 0.1, 0.9].map(q => t[Math.floor(t.length * q)].toFixed(6));
  console.log(`${ms.join(' ')} ${ms[0]}`);
}
main().catch(e => {
  console.error(e.message);
  process.exit(1);
});
