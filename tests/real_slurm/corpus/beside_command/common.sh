greet() { echo "hello"; }
