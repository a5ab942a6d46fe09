new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825"
openssl req -x509 $new -keyout ca.key -out ca.pem -subj "/CN=our cluster" -addext keyUsage=critical,keyCertSign
signed="-x509 $new -CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE"
openssl req $signed -keyout server.key -out server.pem -subj "/CN=server" -addext subjectAltName=DNS:nats-a,DNS:nats-b,DNS:nats-c
openssl req $signed -keyout client.key -out client.pem -subj "/CN=client" -addext extendedKeyUsage=clientAuth
chmod 600 *.key
